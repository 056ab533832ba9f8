import pyarrow as pa
import pytest

from redpoll.sqltypes import TypeNameError, to_arrow


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("int", pa.int32()),
        ("BIGINT", pa.int64()),
        ("array<float>", pa.list_(pa.float32())),
        ("map<string, list<double>>", pa.map_(pa.string(), pa.list_(pa.float64()))),
        ("struct<rate: double, n int>", pa.struct({"rate": pa.float64(), "n": pa.int32()})),
        ("map<int,struct<a:double,b:double>>", pa.map_(pa.int32(), pa.struct({"a": pa.float64(), "b": pa.float64()}))),
    ],
)
def test_a_type_name_is_its_arrow_type(text, expected):
    assert to_arrow(text) == expected


@pytest.mark.parametrize(
    "text", ["", "doubel", "list<float", "list<float>>", "map<int>", "struct<>", "struct<rate>", "int<int>"]
)
def test_an_unreadable_type_name_is_refused(text):
    with pytest.raises(TypeNameError):
        to_arrow(text)
