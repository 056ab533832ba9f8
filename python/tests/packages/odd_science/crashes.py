"""What ends Python while it is looked at."""

import os
import signal
import sys

from pyspark.sql.functions import PandasUDFType, pandas_udf


@pandas_udf("int")
def before(rb):
    return rb.astype(int)


@pandas_udf("int")
def killed(rb):
    os.kill(os.getpid(), signal.SIGSEGV)


@pandas_udf("int")
def leaves(rb):
    os._exit(3)


@pandas_udf("int")
def exits(rb):
    sys.exit("bye")


@pandas_udf("int")
def hidden_question(rb):
    import importlib

    return importlib.import_module("socket").getaddrinfo("stars.example", 443)


@pandas_udf("int")
def after(rb):
    return rb.astype(int)


@pandas_udf("int")
def imports_late(rb):
    import tensorflux

    return tensorflux.predict(rb)


@pandas_udf("night long, n int", PandasUDFType.GROUPED_MAP)
def of_groups(frame):
    return frame
