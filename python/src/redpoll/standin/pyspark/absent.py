"""Names that can be imported but not used without Spark."""


class _Absent(type):
    def __getattr__(cls, name):
        if name.startswith("__"):
            raise AttributeError(name)
        raise NotImplementedError(f"pyspark.{cls.__name__}.{name} needs Spark, and this is Redpoll's stand-in for it")

    def __call__(cls, *args, **kwargs):
        raise NotImplementedError(f"pyspark.{cls.__name__} needs Spark, and this is Redpoll's stand-in for it")


def absent(name):
    """A class that may be imported, annotated with and tested against, and says what is missing once used."""
    return _Absent(name, (), {})
