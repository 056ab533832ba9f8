from pyspark.absent import absent
from pyspark.sql import Column

__all__ = ["Column"]
_to_java_column = absent("_to_java_column")
