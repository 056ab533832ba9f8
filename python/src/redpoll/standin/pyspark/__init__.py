"""Stand-in for pyspark: decorators and types of science modules, no engine."""

from pyspark.absent import absent

__version__ = "3.5.0+redpoll"
SparkConf = absent("SparkConf")
SparkContext = absent("SparkContext")


class SparkFiles:
    """Files are where the module's package put them: nothing is shipped."""

    @staticmethod
    def get(filename):
        return filename

    @staticmethod
    def getRootDirectory():
        return "."
