from pyspark.sql import SparkSession

__all__ = ["SparkSession"]
