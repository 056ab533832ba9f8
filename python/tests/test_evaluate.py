from conftest import batch

from redpoll.worker import evaluate as evaluating
from redpoll.worker.evaluate import evaluate

RAISES_ON_NEGATIVE = """
calls = []
def it(x):
    calls.append(len(x))
    if (x < 0).any():
        raise ValueError("negative  flux\\nin the batch")
    return x * 2
"""


def test_a_batch_gives_one_value_per_row(declare):
    module = declare(RAISES_ON_NEGATIVE, [("x", "double")], "double")
    assert evaluate(module, batch(module, [1.0, 2.0]))[0].to_pylist() == [2.0, 4.0]


def test_only_the_rows_that_raise_are_null(declare):
    module = declare(RAISES_ON_NEGATIVE, [("x", "double")], "double")
    values = [float(i) for i in range(1000)]
    values[7] = values[800] = -1.0
    result, failures = evaluate(module, batch(module, values))
    expected = [None if i in (7, 800) else 2.0 * i for i in range(1000)]
    assert result.to_pylist() == expected
    assert failures == [[7, "ValueError: negative flux in the batch"], [800, "ValueError: negative flux in the batch"]]


def test_one_bad_row_costs_a_logarithm_of_calls(declare):
    module = declare(RAISES_ON_NEGATIVE, [("x", "double")], "double")
    evaluate(module, batch(module, [-1.0] + [1.0] * 1023))
    assert len(module.function.__globals__["calls"]) == 1 + 2 * 10


def test_a_module_that_always_raises_stops_being_asked(declare, monkeypatch):
    monkeypatch.setattr(evaluating, "MAX_CALLS", 10)
    module = declare(RAISES_ON_NEGATIVE, [("x", "double")], "double")
    result, failures = evaluate(module, batch(module, [-1.0] * 4096))
    assert result.null_count == len(failures) == 4096
    assert len(module.function.__globals__["calls"]) < 40


def test_a_result_of_another_length_fails(declare):
    module = declare("def it(x):\n    return x[:0]", [("x", "int")], "int")
    _, failures = evaluate(module, batch(module, [1, 2]))
    assert failures == [[0, "ResultError: 0 values for 1 rows"], [1, "ResultError: 0 values for 1 rows"]]


def test_a_value_of_another_type_fails_in_its_row(declare):
    module = declare("def it(x):\n    return x.map({1: 1, 2: 'two'})", [("x", "int")], "int")
    values, failures = evaluate(module, batch(module, [1, 2, 1]))
    assert values.to_pylist() == [1, None, 1]
    assert failures[0][0] == 1


def test_sys_exit_in_a_module_is_a_failure(declare):
    module = declare("import sys\ndef it(x):\n    sys.exit(3)", [("x", "int")], "int")
    assert evaluate(module, batch(module, [1]))[1] == [[0, "SystemExit: 3"]]


def test_a_row_module_is_called_once_per_row_with_plain_values(declare):
    code = "def it(history, name):\n    return {name: float(sum(v is None for v in history))}"
    module = declare(code, [("history", "list<float>"), ("name", "string")], "map<string,double>", kind="row")
    values, failures = evaluate(module, batch(module, [[1.0, None], None], ["a", "b"]))
    assert values.to_pylist() == [[("a", 1.0)], None]
    assert failures == [[1, "TypeError: 'NoneType' object is not iterable"]]


def test_an_arrow_module_gets_and_gives_arrays(declare):
    code = "import pyarrow.compute as pc\ndef it(history):\n    return pc.list_value_length(history)"
    module = declare(code, [("history", "list<float>")], "bigint", kind="arrow")
    assert evaluate(module, batch(module, [[1.0, 2.0], None]))[0].to_pylist() == [2, None]


def test_an_empty_batch_has_an_empty_result(declare):
    for kind in ("pandas", "row", "arrow"):
        module = declare("def it(x):\n    return x", [("x", "int")], "double", kind=kind)
        values, failures = evaluate(module, batch(module, []))
        assert (len(values), str(values.type), failures) == (0, "double", [])
