"""Names of pyspark.sql that modules import, mostly for annotations and tests."""

from pyspark.absent import absent
from pyspark.sql.types import Row

__all__ = ["Column", "DataFrame", "Row", "SparkSession", "Window"]
Column = absent("Column")
DataFrame = absent("DataFrame")
SparkSession = absent("SparkSession")
Window = absent("Window")
