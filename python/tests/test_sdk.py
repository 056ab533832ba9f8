import dataclasses
import datetime
from typing import Dict, List, Optional

import pyarrow as pa
import pytest

from redpoll import science_module
from redpoll.sdk import type_name


def test_inputs_come_from_annotations():
    @science_module
    def slope(jd: "list<double>", mag: list[float], n: int) -> "struct<rate: double>": ...

    assert slope.__redpoll__.inputs == (("jd", "list<double>"), ("mag", "list<double>"), ("n", "bigint"))
    assert slope.__redpoll__.returns == "struct<rate: double>"


def test_a_declared_function_stays_a_function():
    @science_module(inputs={"x": "int"}, returns="int", kind="row")
    def twice(x):
        return 2 * x

    assert twice(2) == 4
    assert twice.__redpoll__.to_toml() == (
        'name = "twice"\nkind = "row"\ninputs = [\n  { name = "x", type = "int" },\n]\nreturns = "int"\n'
    )


def test_a_parameter_without_a_type_is_refused():
    with pytest.raises(TypeError, match="`y` has no type"):

        @science_module(returns="int")
        def add(x: int, y): ...


def test_inputs_that_are_not_the_parameters_are_refused():
    with pytest.raises(TypeError, match="not its parameters"):

        @science_module(inputs={"jd": "double"}, returns="int")
        def f(mjd): ...


@dataclasses.dataclass
class Rate:
    rate: float
    bands: List[str]


@pytest.mark.parametrize(
    ("hint", "expected"),
    [
        (Optional[float], "double"),
        (Dict[str, List[float]], "map<string,list<double>>"),
        (datetime.datetime, "timestamp"),
        (datetime.date, "date"),
        (Rate, "struct<rate: double, bands: list<string>>"),
        (List[Rate], "list<struct<rate: double, bands: list<string>>>"),
        (pa.map_(pa.int32(), pa.decimal128(8, 2)), "map<int,decimal(8,2)>"),
    ],
)
def test_python_and_arrow_types_are_hints(hint, expected):
    assert type_name(hint) == expected


def test_a_grouped_function_names_its_columns_and_keys():
    @science_module(inputs={"night": int, "jd": float}, returns=Rate, kind="grouped", keys=["night"])
    def tracklets(frame): ...

    assert tracklets.__redpoll__.keys == ("night",)
    assert '{ name = "night", type = "bigint", key = true },' in tracklets.__redpoll__.to_toml()
    with pytest.raises(TypeError, match="needs keys"):
        science_module(inputs={"jd": float}, returns="int", kind="grouped")(lambda frame: frame)
    with pytest.raises(TypeError, match="gets one DataFrame"):
        science_module(returns="int", kind="grouped", keys=["jd"])(lambda frame: frame)
