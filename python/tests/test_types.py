"""Every type that a manifest can name, through a module that gives back what it gets: values, nulls and type stay.

Values are drawn from a seed, types are nested at random. This runs with the oldest and the newest pyarrow and pandas
that modules are used with.
"""

import datetime
import decimal
import random

import pyarrow as pa
import pytest
from conftest import batch

from redpoll.sqltypes import to_arrow
from redpoll.worker.evaluate import evaluate

D = decimal.Decimal
# Besides ordinary values the ends of ranges; times beyond what nanoseconds can hold.
SCALARS = {
    "boolean": [True, False],
    "tinyint": [-128, 0, 127],
    "smallint": [-(2**15), 7, 2**15 - 1],
    "int": [-(2**31), 0, 2**31 - 1],
    "bigint": [-(2**63), 0, 2**63 - 1],
    "utinyint": [0, 255],
    "usmallint": [0, 2**16 - 1],
    "uint": [0, 2**32 - 1],
    "ubigint": [0, 2**64 - 1],
    "float": [-1.5, 0.0, 2.0**127],
    "double": [-1.5, 0.1, 1.7e308],
    "string": ["", "r", "ħω — 2025abc"],
    "binary": [b"", b"\x00\xff", b"FITS"],
    "date": [datetime.date(1801, 1, 1), datetime.date(2026, 11, 28)],
    "timestamp": [datetime.datetime(2026, 11, 28, 1, 2, 3, 456789), datetime.datetime(1970, 1, 1)],
    "decimal(12,3)": [D("-123456789.125"), D("0.000"), D("1.500")],
}
# Where pandas has no integer that may be missing, an integer beyond 53 bits cannot stand beside a null: as in Spark.
WIDE = ("bigint", "ubigint")
KEYS = ("string", "int", "bigint")


class Draw:
    """Types and values from a seed."""

    def __init__(self, seed):
        self.random = random.Random(seed)

    def type(self, depth):
        shape = self.random.choice(["scalar", "list", "map", "struct"]) if depth else "scalar"
        if shape == "list":
            return f"list<{self.type(depth - 1)}>"
        if shape == "map":
            return f"map<{self.random.choice(KEYS)},{self.type(depth - 1)}>"
        if shape == "struct":
            fields = [f"f{i}: {self.type(depth - 1)}" for i in range(self.random.randint(1, 3))]
            return f"struct<{', '.join(fields)}>"
        return self.random.choice(list(SCALARS))

    def value(self, kind, text=None):
        if text not in WIDE and self.random.random() < 0.25:
            return None
        if pa.types.is_map(kind):
            keys = {self.not_null(kind.key_type) for _ in range(self.random.randint(0, 3))}
            return [(key, self.value(kind.item_type)) for key in sorted(keys)]
        if pa.types.is_struct(kind):
            return {kind.field(i).name: self.value(kind.field(i).type) for i in range(kind.num_fields)}
        if pa.types.is_list(kind):
            return [self.value(kind.value_type) for _ in range(self.random.randint(0, 4))]
        return self.not_null(kind)

    def not_null(self, kind):
        return self.random.choice(next(v for text, v in SCALARS.items() if to_arrow(text) == kind))


def same(module_kind, declare, text, values):
    """What a module that does nothing makes of values."""
    code = "def it(x):\n    return x"
    module = declare(code, [("x", text)], text, kind=module_kind)
    given, failures = evaluate(module, batch(module, values))
    assert failures == []
    assert given.type == to_arrow(text)
    return given.to_pylist()


@pytest.mark.parametrize("kind", ["pandas", "arrow", "row"])
@pytest.mark.parametrize("text", list(SCALARS))
def test_a_value_comes_back_as_it_went(declare, kind, text):
    values = SCALARS[text] * 2
    assert same(kind, declare, text, values) == values
    listed = [values, [], values[:1]]
    assert same(kind, declare, f"list<{text}>", listed) == listed


@pytest.mark.parametrize("kind", ["pandas", "arrow", "row"])
@pytest.mark.parametrize("text", [text for text in SCALARS if text not in WIDE])
def test_a_null_comes_back_as_null(declare, kind, text):
    values = [*SCALARS[text], None]
    assert same(kind, declare, text, values) == values
    assert same(kind, declare, text, [None, None]) == [None, None]


@pytest.mark.parametrize("kind", ["arrow", "row"])
def test_wide_integers_stand_beside_nulls_where_pandas_is_not(declare, kind):
    assert same(kind, declare, "bigint", [2**63 - 1, None]) == [2**63 - 1, None]


@pytest.mark.parametrize("kind", ["pandas", "arrow", "row"])
@pytest.mark.parametrize("seed", range(60))
def test_nested_values_come_back_as_they_went(declare, kind, seed):
    draw = Draw(seed)
    text = draw.type(3)
    while "bigint" in text:
        text = draw.type(3)
    values = [draw.value(to_arrow(text), text) for _ in range(8)]
    if kind == "pandas" and text.startswith("struct"):
        # As a DataFrame a struct that is null is a row of nulls, as in Spark.
        values = [value for value in values if value is not None]
    assert same(kind, declare, text, values) == values, text


def test_times_beyond_nanoseconds_come_back(declare):
    values = [datetime.datetime(1600, 1, 1), datetime.datetime(2999, 1, 1), None]
    assert same("pandas", declare, "timestamp", values) == values
