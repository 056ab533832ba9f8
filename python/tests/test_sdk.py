import pytest

from redpoll import science_module


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
