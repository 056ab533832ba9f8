"""Grouped modules: a DataFrame for each key of a batch."""

from conftest import batch
from test_load import refused

from redpoll.worker.evaluate import evaluate

INPUTS = [("night", "bigint"), ("jd", "double"), ("mag", "list<float>")]
KEYS = ["night"]


def values(module, *columns):
    result, failures = evaluate(module, batch(module, *columns))
    assert result.type == module.returns
    return result.to_pylist(), failures


def test_a_group_is_the_rows_of_a_key_wherever_they_stand(declare):
    code = "def it(frame):\n    return frame['jd'] - frame['jd'].min()"
    module = declare(code, INPUTS, "double", kind="grouped", keys=KEYS)
    given, failures = values(module, [2, 1, 2, 1], [5.0, 1.0, 3.0, 4.0], [[1.0]] * 4)
    assert (given, failures) == ([2.0, 0.0, 0.0, 3.0], [])


def test_rows_are_matched_by_their_labels_when_the_function_sorts(declare):
    code = "def it(frame):\n    sorted_ = frame.sort_values('jd')\n    return sorted_['jd'].rank().rename('rank')"
    module = declare(code, INPUTS, "int", kind="grouped", keys=KEYS)
    assert values(module, [1, 1, 1], [3.0, 1.0, 2.0], [None] * 3)[0] == [3, 1, 2]


def test_one_row_for_a_group_is_the_value_of_all_its_rows(declare):
    code = (
        "import pandas as pd\n"
        "def it(frame):\n    return pd.DataFrame({'n': [len(frame)], 'mags': [[float(m[0]) for m in frame['mag']]]})"
    )
    module = declare(code, INPUTS, "struct<n: int, mags: list<double>>", kind="grouped", keys=KEYS)
    one, two = {"n": 1, "mags": [7.0]}, {"n": 2, "mags": [8.0, 9.0]}
    assert values(module, [1, 2, 1], [0.0] * 3, [[8.0], [7.0], [9.0]])[0] == [two, one, two]


def test_null_is_a_key_and_keys_may_be_several(declare):
    code = "def it(frame):\n    return [len(frame)]"
    module = declare(code, [("night", "bigint"), ("field", "string")], "int", kind="grouped", keys=["night", "field"])
    assert values(module, [1, None, 1, None, 1], ["a", "a", "b", "a", "a"])[0] == [2, 2, 1, 2, 2]


def test_a_group_that_fails_costs_its_own_rows(declare):
    code = "def it(frame):\n    assert (frame['night'] != 2).all(), 'clouds'\n    return frame['jd']"
    module = declare(code, INPUTS, "double", kind="grouped", keys=KEYS)
    given, failures = values(module, [2, 1, 2], [1.0, 2.0, 3.0], [None] * 3)
    assert (given, failures) == ([None, 2.0, None], [[0, "AssertionError: clouds"], [2, "AssertionError: clouds"]])


def test_a_result_of_neither_length_fails(declare):
    module = declare("def it(frame):\n    return frame['jd'][:2]", INPUTS, "double", kind="grouped", keys=KEYS)
    assert values(module, [1] * 3, [0.0] * 3, [None] * 3)[1][0] == [0, "ResultError: 2 rows for the 3 rows of a group"]


def test_no_rows_are_no_groups(declare):
    module = declare("def it(frame):\n    raise OSError", INPUTS, "double", kind="grouped", keys=KEYS)
    assert values(module, [], [], []) == ([], [])


def test_the_decorator_says_by_what_rows_are_grouped(declare, tmp_path):
    code = (
        "from redpoll import science_module\n"
        "@science_module(inputs={'night': 'bigint', 'jd': float}, returns='int', kind='grouped', keys=['night'])\n"
        "def it(frame):\n    return [len(frame)]\n"
    )
    inputs = [("night", "bigint"), ("jd", "double")]
    assert declare(code, inputs, "int", kind="grouped", keys=["night"]).keys == [0]
    refused(
        tmp_path, "the manifest's keys jd are not what the decorator declares: night",
        inputs=inputs, returns="int", kind="grouped", keys=["jd"],
    )  # fmt: skip
