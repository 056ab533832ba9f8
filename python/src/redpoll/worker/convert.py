"""Arrow columns to what modules expect, and back.

The values are those that Spark gives a pandas function: a list is a numpy array in which a missing float is NaN,
a struct column a DataFrame, a map a dict, a list of structs a list of dicts. A pandas or row result's missing
values (None, NaN, NaT) become null; an arrow result keeps the NaN it holds.
"""

import pyarrow as pa
from pyarrow import types


def to_pandas(column, name):
    """A Series of the column, or for a struct a DataFrame with one column per field."""
    import pandas as pd

    if types.is_struct(column.type):
        fields = [column.type.field(i).name for i in range(column.type.num_fields)]
        return pd.DataFrame({field: to_pandas_series(part, field) for field, part in zip(fields, column.flatten())})
    return to_pandas_series(column, name)


def to_pandas_series(column, name):
    if _needs_python(column.type):
        import pandas as pd

        return pd.Series(to_python(column), name=name, dtype=object)
    try:
        return column.to_pandas(date_as_object=True).rename(name)
    except pa.ArrowInvalid:
        # Old versions of pandas have times of nanoseconds alone, which end in the years 1677 and 2262.
        return column.to_pandas(date_as_object=True, timestamp_as_object=True).rename(name)


def _needs_python(kind):
    """Whether pyarrow's own conversion would not give dicts: maps, and structs inside anything."""
    if types.is_list(kind) or types.is_large_list(kind):
        return _needs_python(kind.value_type)
    return types.is_map(kind) or types.is_struct(kind)


def to_python(column):
    """The column as plain Python values, maps as dicts; None stays None."""
    return [_plain(value, column.type) for value in column.to_pylist()]


def _plain(value, kind):
    if value is None or not types.is_nested(kind):
        return value
    if types.is_map(kind):
        return {key: _plain(item, kind.item_type) for key, item in value}
    if types.is_struct(kind):
        fields = [kind.field(i) for i in range(kind.num_fields)]
        return {field.name: _plain(value[field.name], field.type) for field in fields}
    return [_plain(item, kind.value_type) for item in value] if types.is_nested(kind.value_type) else value


def from_pandas(result, kind):
    """The declared type's array of a Series, DataFrame (for a struct), numpy array or list."""
    if hasattr(result, "columns"):
        if types.is_struct(kind):
            return _from_frame(result, kind)
        if len(result.columns) != 1:
            raise ValueError(f"the result has {len(result.columns)} columns, and is declared as one {kind}")
        result = result.iloc[:, 0]
    if _has_map(kind) or types.is_struct(kind):
        return from_python(list(result), kind)
    values = (
        getattr(result, "array", result) if _is_extension(result) else getattr(result, "to_numpy", lambda: result)()
    )
    try:
        return _one(pa.array(values, type=kind, from_pandas=True))
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
        # Integers that became floats on the way, because a value was missing, fit once they are null.
        return _one(pa.array(values, from_pandas=True)).cast(kind)


def _is_extension(result):
    import pandas as pd

    return isinstance(result, pd.Series) and isinstance(result.dtype, pd.api.extensions.ExtensionDtype)


def _from_frame(frame, kind):
    fields = [kind.field(i) for i in range(kind.num_fields)]
    missing = [field.name for field in fields if field.name not in frame.columns]
    if missing:
        raise ValueError(f"the result has no column {', '.join(missing)}; it has {', '.join(map(str, frame.columns))}")
    parts = [from_pandas(frame[field.name], field.type) for field in fields]
    return pa.StructArray.from_arrays(parts, fields=fields)


def from_arrow(result, kind):
    """The declared type's array of what an arrow function returned."""
    values = (
        _one(result)
        if isinstance(result, (pa.Array, pa.ChunkedArray))
        else pa.array(result, type=kind, from_pandas=True)
    )
    return values if values.type == kind else values.cast(kind)


def from_python(values, kind):
    """The declared type's array of plain values; dicts fit maps and structs."""
    if _has_map(kind):
        values = [_pairs(value, kind) for value in values]
    return _one(pa.array(values, type=kind, from_pandas=True))


def _has_map(kind):
    if types.is_map(kind):
        return True
    if types.is_struct(kind):
        return any(_has_map(kind.field(i).type) for i in range(kind.num_fields))
    return types.is_list(kind) and _has_map(kind.value_type)


def _pairs(value, kind):
    """Maps as the lists of pairs that pyarrow wants, at any depth."""
    if value is None or (isinstance(value, float) and value != value):
        return None
    if types.is_map(kind):
        return [(key, _pairs(item, kind.item_type)) for key, item in dict(value).items()]
    if types.is_struct(kind) and _has_map(kind):
        return {
            kind.field(i).name: _pairs(value.get(kind.field(i).name), kind.field(i).type)
            for i in range(kind.num_fields)
        }
    if types.is_list(kind) and _has_map(kind):
        return [_pairs(item, kind.value_type) for item in value]
    return value


def _one(values):
    return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
