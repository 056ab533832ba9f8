from pyspark.sql import DataFrame

__all__ = ["DataFrame"]
