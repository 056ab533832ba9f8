"""The two decorators, and every other function of ``pyspark.sql.functions`` as a name that can be imported.

``pandas_udf`` and ``udf`` are met in all these forms::

    @pandas_udf(DoubleType())                      @udf
    @pandas_udf("double")                          @udf("int")
    @pandas_udf(DoubleType(), PandasUDFType.SCALAR)    @udf(returnType=IntegerType())
    pandas_udf(function, returnType=DoubleType())  udf(f=function, returnType=...)
"""

from pyspark.sql.types import DataType, StringType, parse


class PandasUDFType:
    SCALAR = 200
    GROUPED_MAP = 201
    GROUPED_AGG = 202
    SCALAR_ITER = 204


SQL_BATCHED_UDF = 100


class UserDefinedFunction:
    """A decorated function: callable as it was written.

    Attributes
    ----------
    func: the function itself (others read ``func.__code__.co_varnames`` to find its arguments).
    returnType: the declared type of one result.
    evalType: ``PandasUDFType.SCALAR`` (vectorised), ``GROUPED_MAP`` (once per group) or 100 (once per row).
    """

    def __init__(self, func, return_type, eval_type):
        self.func = func
        self.returnType = return_type if isinstance(return_type, DataType) else parse(return_type)
        self.evalType = eval_type
        self.deterministic = True
        for name in ("__name__", "__doc__", "__module__", "__qualname__"):
            setattr(self, name, getattr(func, name, None))

    def __call__(self, *args, **kwargs):
        return self.func(*args, **kwargs)

    def asNondeterministic(self):
        self.deterministic = False
        return self


def pandas_udf(f=None, returnType=None, functionType=None):
    """Marks a function of pandas Series; see the module's head for the forms."""
    if f is None or isinstance(f, (str, DataType)):
        return_type, kind = (f, functionType or returnType) if f is not None else (returnType, functionType)
        if isinstance(kind, (str, DataType)):
            return_type, kind = kind, functionType
        return lambda func: _pandas(func, return_type, kind)
    return _pandas(f, returnType, functionType)


def _pandas(func, return_type, kind):
    if return_type is None:
        raise TypeError(f"pandas_udf of {func.__name__} needs a return type")
    kind = PandasUDFType.SCALAR if kind is None else kind
    if kind not in (PandasUDFType.SCALAR, PandasUDFType.GROUPED_MAP):
        raise NotImplementedError(f"{func.__name__}: only SCALAR and GROUPED_MAP run outside Spark, not kind {kind}")
    return UserDefinedFunction(func, return_type, kind)


def udf(f=None, returnType=None, useArrow=None):
    """Marks a function that is called once per row; see the module's head for the forms."""
    if f is None or isinstance(f, (str, DataType)):
        return_type = f if f is not None else returnType
        return lambda func: UserDefinedFunction(func, return_type or StringType(), SQL_BATCHED_UDF)
    return UserDefinedFunction(f, returnType or StringType(), SQL_BATCHED_UDF)


def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)

    def expression(*args, **kwargs):
        raise NotImplementedError(f"pyspark.sql.functions.{name} builds a Spark expression: write it in SQL")

    expression.__name__ = expression.__qualname__ = name
    return expression
