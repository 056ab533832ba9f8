"""Decorated functions in every form."""

from pyspark.sql.functions import pandas_udf, udf
from pyspark.sql.types import IntegerType, MapType, StringType, StructField, StructType, DoubleType

from odd_science.helpers import nearest_star

features = StructType([StructField("mean", DoubleType(), True)])


@pandas_udf(IntegerType())
def n_points(magpsf):
    """Number of detections.

    And more that is not said in lists.
    """
    return magpsf.map(len)


@pandas_udf("double")
def with_model(rb, model=None):
    return rb * (1 if model is None else 2)


def raw_features(cmagpsf, name):
    return {name: {"mean": float(len(cmagpsf))}}


row_features = udf(f=raw_features, returnType=MapType(StringType(), features))


@pandas_udf(IntegerType())
def asks_by_a_helper(ra):
    return nearest_star(ra)


@pandas_udf(IntegerType())
def lacks_a_column(no_such_column):
    return no_such_column


@pandas_udf(IntegerType())
def always_fails(rb):
    raise ValueError("nothing is good enough")


@pandas_udf(IntegerType())
def fails_on_some(rb):
    if (rb > 0.5).any():
        raise ValueError("too good")
    return rb.astype(int)


@pandas_udf(IntegerType())
def takes_anything(*columns):
    return columns[0]


def on_dataframes(df):
    @pandas_udf(IntegerType())
    def inner(rb):
        return rb

    return df.withColumn("x", inner(df.rb))
