from pyspark.sql import Window

__all__ = ["Window"]
