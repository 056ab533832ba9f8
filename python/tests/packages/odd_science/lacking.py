import no_such_package  # noqa: F401
from pyspark.sql.functions import pandas_udf


@pandas_udf("int")
def needs_a_package(rb):
    return rb
