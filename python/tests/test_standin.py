import sys

import pytest

from redpoll.worker.load import STANDIN


@pytest.fixture(autouse=True)
def standin_first(monkeypatch):
    monkeypatch.syspath_prepend(str(STANDIN))
    for name in [name for name in sys.modules if name.split(".")[0] == "pyspark"]:
        monkeypatch.delitem(sys.modules, name)


def test_pandas_udf_is_met_in_every_form():
    from pyspark.sql.functions import PandasUDFType, pandas_udf
    from pyspark.sql.types import DoubleType

    def f(x):
        return x

    forms = [
        pandas_udf(DoubleType())(f),
        pandas_udf("double")(f),
        pandas_udf(DoubleType(), PandasUDFType.SCALAR)(f),
        pandas_udf(returnType="double", functionType=PandasUDFType.SCALAR)(f),
        pandas_udf(f, returnType=DoubleType()),
        pandas_udf(f, DoubleType()),
        pandas_udf(f=f, returnType="double"),
    ]
    for form in forms:
        assert form.func is f
        assert form.returnType == DoubleType()
        assert form.evalType == PandasUDFType.SCALAR
        assert form(3) == 3


def test_udf_is_met_in_every_form():
    from pyspark.sql.functions import udf
    from pyspark.sql.types import IntegerType, StringType

    def f(x):
        return x

    forms = [
        udf(IntegerType())(f),
        udf("int")(f),
        udf(returnType=IntegerType())(f),
        udf(f, IntegerType()),
        udf(f=f, returnType="int"),
    ]
    assert [form.returnType for form in forms] == [IntegerType()] * len(forms)
    assert {form.evalType for form in forms} == {100}
    assert udf(f).returnType == StringType()
    assert udf(f).func.__code__.co_varnames == ("x",)


def test_nested_types_have_their_text():
    from pyspark.sql.types import (
        ArrayType,
        DoubleType,
        IntegerType,
        MapType,
        StringType,
        StructField,
        StructType,
        parse,
    )

    features = StructType([StructField("amplitude", DoubleType(), True)]).add("n", "int")
    kind = MapType(IntegerType(), features)
    assert kind.simpleString() == "map<int,struct<amplitude:double,n:int>>"
    assert parse(kind.simpleString()) == kind
    assert parse("night long, mags array<float>").simpleString() == "struct<night:bigint,mags:array<float>>"
    assert parse("decimal(12,3)").simpleString() == "decimal(12,3)"
    assert MapType(StringType(), ArrayType(DoubleType())) == parse("map<string,array<double>>")
    assert features.names == ["amplitude", "n"]


def test_any_function_can_be_imported_and_says_what_is_missing_when_called():
    import pyspark.sql.functions as F
    from pyspark.sql.functions import array_sort, col, lit  # noqa: F401
    from pyspark import SparkContext, SparkFiles  # noqa: F401
    from pyspark.sql import Column, DataFrame, SparkSession  # noqa: F401

    with pytest.raises(NotImplementedError, match="functions.explode"):
        F.explode("x")
    with pytest.raises(NotImplementedError, match="SparkSession.builder"):
        SparkSession.builder.getOrCreate()


def test_a_function_of_groups_is_known_by_its_kind_and_other_kinds_are_refused():
    from pyspark.sql.functions import PandasUDFType, pandas_udf

    assert pandas_udf("double", PandasUDFType.GROUPED_MAP)(len).evalType == PandasUDFType.GROUPED_MAP
    with pytest.raises(NotImplementedError, match="only SCALAR and GROUPED_MAP"):
        pandas_udf("double", PandasUDFType.GROUPED_AGG)(len)


def test_a_row_is_reached_by_position_key_and_attribute():
    from pyspark.sql import Row

    row = Row(ra=1.0, dec=2.0)
    assert (row[0], row["dec"], row.ra) == (1.0, 2.0, 1.0)
    assert row.asDict() == {"ra": 1.0, "dec": 2.0}
