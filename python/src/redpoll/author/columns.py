"""Alerts of a notebook as the columns that a module takes."""

import difflib
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc


def read(alerts):
    """The alerts as a table; a path is read."""
    if isinstance(alerts, pa.Table):
        return alerts
    if isinstance(alerts, pa.RecordBatch):
        return pa.Table.from_batches([alerts])
    if isinstance(alerts, (str, Path)):
        return _file(Path(alerts))
    if hasattr(alerts, "columns"):
        return pa.Table.from_pandas(alerts, preserve_index=False)
    return pa.Table.from_pylist(list(alerts))


def _file(path):
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    parquet = [file for file in files if file.suffix == ".parquet"]
    if parquet:
        import pyarrow.parquet

        return pa.concat_tables([pyarrow.parquet.read_table(file) for file in parquet], promote_options="default")
    avro = [file for file in files if file.suffix == ".avro"]
    if not avro:
        raise FileNotFoundError(f"{path}: no .parquet or .avro file is there")
    try:
        import fastavro
    except ImportError as missing:
        raise ImportError(f"{path}: reading Avro takes the package fastavro: pip install fastavro") from missing
    rows = []
    for file in avro:
        with open(file, "rb") as stream:
            rows += [{k: v for k, v in alert.items() if not _is_stamp(v)} for alert in fastavro.reader(stream)]
    return pa.Table.from_pylist(rows)


def _is_stamp(value):
    """Cut-outs are most of an alert's bytes, and no module of columns reads them."""
    return isinstance(value, bytes) or isinstance(value, dict) and any(isinstance(v, bytes) for v in value.values())


def batch(table, module, inputs):
    """The arguments of a module, in its types."""
    unknown = set(inputs) - set(module.inputs)
    if unknown:
        raise KeyError(f"{module.name} has no input {', '.join(sorted(unknown))}; it has {', '.join(module.inputs)}")
    arrays = []
    for name, kind in zip(module.inputs, module.input_types):
        given = inputs.get(name)
        if given is None:
            values = _found(table, name, kind)
        elif isinstance(given, str):
            values = column(table, given)
        else:
            values = given if isinstance(given, (pa.Array, pa.ChunkedArray)) else pa.array(given, from_pandas=True)
        arrays.append(_one(values).cast(kind))
    return pa.RecordBatch.from_arrays(arrays, names=module.inputs)


def column(table, path):
    """The values at a dotted path; through a list of structs, lists of one field."""
    first, *rest = path.split(".")
    if first not in table.column_names:
        raise KeyError(f"there is no column `{first}`{_nearest(first, table.column_names)}")
    values = _one(table[first])
    for name in rest:
        values = _field(values, name, path)
    return pa.chunked_array([values])


def ids(table, name):
    """What the alerts are called: a column, else their numbers."""
    whole = [f.name for f in table.schema if pa.types.is_int64(f.type)] or [f.name for f in table.schema if pa.types.is_string(f.type)]
    name = name or next(iter(whole), None)
    return column(table, name).to_pylist() if name else list(range(table.num_rows))


def _found(table, name, kind):
    """Where an input without a path comes from."""
    if name in table.column_names:
        return table[name]
    structs = [f.name for f in table.schema if pa.types.is_struct(f.type) and f.type.get_field_index(name) >= 0]
    if not pa.types.is_list(kind):
        if structs:
            return column(table, f"{structs[0]}.{name}")
        raise KeyError(f"no column for the input `{name}`{_nearest(name, _names(table))} Give inputs={{'{name}': '…'}}")
    lists = [f.name for f in table.schema if _is_history(f.type, name)]
    if not lists:
        raise KeyError(f"no history for the input `{name}`{_nearest(name, _names(table))} Give inputs={{'{name}': '…'}}")
    earlier = column(table, f"{lists[0]}.{name}").to_pylist()
    if not structs:
        return pa.array(earlier, type=kind)
    current = column(table, f"{structs[0]}.{name}").to_pylist()
    return pa.array([[*(old or ()), new] for old, new in zip(earlier, current)], type=kind)


def _is_history(kind, name):
    return pa.types.is_list(kind) and pa.types.is_struct(kind.value_type) and kind.value_type.get_field_index(name) >= 0


def _field(values, name, path):
    kind = values.type.value_type if pa.types.is_list(values.type) else values.type
    known = [kind.field(i).name for i in range(kind.num_fields)] if pa.types.is_struct(kind) else []
    if name not in known:
        raise KeyError(f"`{path}`: there is no field `{name}`{_nearest(name, known)}")
    if pa.types.is_struct(values.type):
        return pc.struct_field(values, [known.index(name)])
    items = [None if row is None else [None if item is None else item[name] for item in row] for row in values.to_pylist()]
    return pa.array(items, type=pa.list_(kind.field(known.index(name)).type))


def _names(table):
    names = list(table.column_names)
    for f in table.schema:
        kind = f.type.value_type if pa.types.is_list(f.type) else f.type
        names += [kind.field(i).name for i in range(kind.num_fields)] if pa.types.is_struct(kind) else []
    return names


def _nearest(wanted, known):
    near = difflib.get_close_matches(wanted, known, n=1)
    return f": did you mean `{near[0]}`?" if near else "."


def _one(values):
    return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
