"""Calls a grouped module: once for each key of a batch, with the rows of that key as a DataFrame.

A group is what one batch holds of a key: rows of the key that come in another batch are another call. The result has
one row for each row of the group, or one row for all of them. Rows are matched by the frame's index if the result has
the same labels, so that a function may sort; by position otherwise.
"""

import traceback

import pyarrow as pa

from redpoll.worker import convert
from redpoll.worker.results import ResultError, reason


def evaluate(module, columns, n_rows):
    """One value per row, and the rows whose group failed, each with its reason."""
    import pandas as pd

    if n_rows == 0:
        return pa.nulls(0, module.returns), []
    data = {name: convert.to_pandas_series(column, name) for name, column in zip(module.inputs, columns)}
    frame = pd.DataFrame(data)
    values, order, failures = [], [], []
    for rows in _groups(frame, [module.inputs[key] for key in module.keys]):
        order.extend(rows)
        try:
            values.append(_call(module, frame.iloc[rows].reset_index(drop=True)))
        except (Exception, SystemExit) as error:
            if not failures:
                traceback.print_exc()
            values.append(pa.nulls(len(rows), module.returns))
            failures += [[row, reason(error)] for row in rows]
    places = pa.array(sorted(range(n_rows), key=order.__getitem__), pa.int64())
    return pa.concat_arrays(values).take(places), sorted(failures)


def _groups(frame, keys):
    """Positions of the rows of each key, in the order in which keys first come; null is a key."""
    groups = {}
    plain = [[None if value != value else value for value in frame[key]] for key in keys]
    for row, key in enumerate(zip(*plain)):
        groups.setdefault(key, []).append(row)
    return groups.values()


def _call(module, group):
    n_rows = len(group)
    result = module.function(group)
    if len(result) == n_rows:
        return convert.from_pandas(_in_order(result, n_rows), module.returns)
    if len(result) != 1:
        raise ResultError(f"{len(result)} rows for the {n_rows} rows of a group")
    return convert.from_pandas(result, module.returns).take(pa.array([0] * n_rows, pa.int64()))


def _in_order(result, n_rows):
    labels = list(result.index) if hasattr(result, "sort_index") else []
    if labels != list(range(n_rows)) and set(labels) == set(range(n_rows)):
        return result.sort_index()
    return result
