import pyarrow as pa
import pytest

from redpoll.sqltypes import TypeNameError, to_arrow, to_text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("int", pa.int32()),
        ("BIGINT", pa.int64()),
        ("array<float>", pa.list_(pa.float32())),
        ("map<string, list<double>>", pa.map_(pa.string(), pa.list_(pa.float64()))),
        ("struct<rate: double, n int>", pa.struct({"rate": pa.float64(), "n": pa.int32()})),
        ("decimal(12, 3)", pa.decimal128(12, 3)),
        ("decimal", pa.decimal128(10, 0)),
        ("list<struct<x: decimal(5,2), y: ubigint>>", pa.list_(pa.struct({"x": pa.decimal128(5, 2), "y": pa.uint64()}))),
        ("map<int,struct<a:double,b:double>>", pa.map_(pa.int32(), pa.struct({"a": pa.float64(), "b": pa.float64()}))),
    ],
)
def test_a_type_name_is_its_arrow_type_and_back(text, expected):
    assert to_arrow(text) == expected
    assert to_arrow(to_text(expected)) == expected


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (pa.large_string(), "string"),
        (pa.dictionary(pa.int8(), pa.string()), "string"),
        (pa.binary(16), "binary"),
        (pa.list_(pa.float32(), 3), "list<float>"),
        (pa.timestamp("ns", "UTC"), "timestamp"),
        (pa.date64(), "date"),
    ],
)
def test_an_arrow_type_has_the_name_that_holds_its_values(kind, text):
    assert to_text(kind) == text


def test_an_arrow_type_without_a_name_is_refused():
    with pytest.raises(TypeNameError, match="duration"):
        to_text(pa.list_(pa.duration("s")))


@pytest.mark.parametrize(
    "text", ["", "doubel", "list<float", "list<float>>", "map<int>", "struct<>", "struct<rate>", "int<int>", "decimal(39,1)", "decimal(3,4)", "decimal(x)"]
)
def test_an_unreadable_type_name_is_refused(text):
    with pytest.raises(TypeNameError):
        to_arrow(text)
