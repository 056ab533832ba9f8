import math

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from redpoll.sqltypes import to_arrow
from redpoll.worker import convert


def pandas_of(values, kind):
    return convert.to_pandas(pa.array(values, type=to_arrow(kind)), "x")


def test_a_list_is_a_numpy_array_with_nan_for_null():
    history = pandas_of([[18.5, None], None], "list<float>")
    assert isinstance(history[0], np.ndarray)
    assert history[0].dtype == np.float32
    assert history[0][0] == np.float32(18.5)
    assert math.isnan(history[0][1])
    assert history[1] is None


def test_a_struct_is_a_data_frame():
    frame = pandas_of([{"ra": 1.5, "band": "g"}, None], "struct<ra: double, band: string>")
    assert list(frame.columns) == ["ra", "band"]
    assert frame["ra"][0] == 1.5
    assert math.isnan(frame["ra"][1])


def test_a_map_is_a_dict_at_any_depth():
    series = pandas_of([[("1", [("2", 3.0)])]], "map<string,map<string,double>>")
    assert series[0] == {"1": {"2": 3.0}}


def test_a_list_of_structs_is_a_list_of_dicts():
    series = pandas_of([[{"mjd": 1.0, "band": None}], []], "list<struct<mjd: double, band: string>>")
    assert series[0] == [{"mjd": 1.0, "band": None}]
    assert series[1] == []


def test_rows_keep_none_inside_lists():
    column = pa.array([[1.0, None]], type=to_arrow("list<float>"))
    assert convert.to_python(column) == [[1.0, None]]


@pytest.mark.parametrize(
    ("result", "kind", "expected"),
    [
        (pd.Series([1, 2]), "int", [1, 2]),
        (pd.Series([1.0, np.nan]), "int", [1, None]),
        (pd.Series([1.0, np.nan]), "double", [1.0, None]),
        (pd.Series(["a", None]), "string", ["a", None]),
        (pd.Series([True, None], dtype=object), "boolean", [True, None]),
        (pd.Series([1, None], dtype="Int64"), "bigint", [1, None]),
        (np.array([1, 2]), "double", [1.0, 2.0]),
        ([1, None], "int", [1, None]),
        (pd.Series([np.array([1.0, 2.0]), None]), "list<float>", [[1.0, 2.0], None]),
        (pd.Series([{"a": 1.5}, None]), "map<string,double>", [[("a", 1.5)], None]),
        (pd.Series([{"a": np.array([1.5])}]), "map<string,list<double>>", [[("a", [1.5])]]),
        (pd.Series([{1: {"x": 1.0}}]), "map<int,struct<x: double>>", [[(1, {"x": 1.0})]]),
        (pd.DataFrame({"b": [1], "a": [np.nan]}), "struct<a: double, b: int>", [{"a": None, "b": 1}]),
        (pd.Series([{"a": 1.0, "b": None}]), "struct<a: double, b: int>", [{"a": 1.0, "b": None}]),
    ],
)
def test_a_result_becomes_the_declared_type(result, kind, expected):
    array = convert.from_pandas(result, to_arrow(kind))
    assert array.type == to_arrow(kind)
    assert array.to_pylist() == expected


@pytest.mark.parametrize(
    ("result", "kind"), [(pd.Series([1.5]), "int"), (pd.Series(["x"]), "double"), (pd.Series([2**40]), "int")]
)
def test_a_result_that_would_lose_its_value_is_refused(result, kind):
    with pytest.raises((pa.ArrowInvalid, pa.ArrowTypeError, OverflowError)):
        convert.from_pandas(result, to_arrow(kind))


def test_a_frame_without_a_declared_column_names_it():
    with pytest.raises(ValueError, match="no column error; it has rate"):
        convert.from_pandas(pd.DataFrame({"rate": [1.0]}), to_arrow("struct<rate: double, error: double>"))
