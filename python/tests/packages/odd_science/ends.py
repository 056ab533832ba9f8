import os

from pyspark.sql.functions import pandas_udf

os._exit(7)


@pandas_udf("int")
def never_seen(rb):
    return rb
