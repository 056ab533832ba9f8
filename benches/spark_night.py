"""The night of night.sql in PySpark, run by `benches/night` in an environment of its own.

    spark_night.py INPUT OUTPUT SCHEMA messages|decoded on|off|raw

INPUT   Parquet: `value`, an alert as it came from Kafka (messages), or the columns of the alert (decoded)
SCHEMA  Avro schema that gives the columns

Messages are decoded as the broker does it live: a Python udf around fastavro. The stamps are dropped in that udf, which
spares Spark their way back to the JVM.
"""
import io
import json
import sys

import fastavro
from fink_utils.spark.utils import concat_col
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

PRIMITIVES = {"string": T.StringType, "bytes": T.BinaryType, "int": T.IntegerType, "long": T.LongType, "float": T.FloatType,
              "double": T.DoubleType, "boolean": T.BooleanType}
STAMPS = ("cutoutScience", "cutoutTemplate", "cutoutDifference")
HISTORY = ("distnr", "magpsf", "sigmapsf", "magnr", "sigmagnr", "isdiffpos", "fid", "jd")


def spark_type(avro, named):
    """The Spark type of an Avro schema; `named` collects the records met."""
    if isinstance(avro, list):
        [only] = [branch for branch in avro if branch != "null"]
        return spark_type(only, named)
    if isinstance(avro, str):
        return named[avro] if avro in named else PRIMITIVES[avro]()
    if avro["type"] == "array":
        return T.ArrayType(spark_type(avro["items"], named))
    if avro["type"] == "record":
        fields = [T.StructField(field["name"], spark_type(field["type"], named)) for field in avro["fields"]]
        named[avro["name"]] = T.StructType([field for field in fields if field.name not in STAMPS])
        return named[avro["name"]]
    return spark_type(avro["type"], named)


def decoded(message):
    alert = next(fastavro.reader(io.BytesIO(message)))
    for name in STAMPS:
        alert.pop(name, None)
    return alert


def scored(alerts):
    """The three functions, with arguments as the broker gives them."""
    from fink_science.ztf.asteroids.processor import roid_catcher
    from fink_science.ztf.nalerthist.processor import nalerthist
    from fink_science.ztf.standardized_flux.processor import standardized_flux

    for name in HISTORY:
        alerts = concat_col(alerts, name, prefix="c")
    alerts = alerts.withColumn("roid", roid_catcher(
        "cjd", "cmagpsf", "candidate.ndethist", "candidate.sgscore1", "candidate.ssdistnr", "candidate.distpsnr1"))
    alerts = alerts.withColumn("nalerthist", nalerthist("cmagpsf"))
    alerts = alerts.withColumn("flux", standardized_flux("candid", "objectId", *["c" + name for name in HISTORY]))
    return alerts.drop(*["c" + name for name in HISTORY])


def main():
    source, target, schema, kind, science = sys.argv[1:]
    spark = SparkSession.builder.getOrCreate()
    alerts = spark.read.parquet(source)
    if kind == "messages":
        with open(schema) as file:
            decode = F.udf(decoded, spark_type(json.load(file), {}))
        alerts = alerts.select(decode("value").alias("alert")).select("alert.*")
    if science == "raw":  # what the archive of undecoded alerts becomes, for the run that starts from it
        alerts.write.parquet(target)
        spark.stop()
        return
    good = alerts.filter("candidate.nbad = 0 AND candidate.rb >= 0.55 AND candidate.fid <> 3")
    (scored(good) if science == "on" else good).write.parquet(target)
    spark.stop()


if __name__ == "__main__":
    main()
