"""Calls a module on a batch, and narrows a failure down to the rows that cause it.

A module that raises is called again on each half of the rows, until the rows that make it raise stand alone:
one bad row among n costs about 2 log2(n) calls. Only those rows are null; each carries its reason.
"""

import time
import traceback

import pyarrow as pa

from redpoll.worker import convert, grouped
from redpoll.worker.results import ResultError, reason

# A module that fails for most rows would be called twice per row. Past either limit, the rows still in doubt fail
# together with the reason of their part.
MAX_CALLS = 2048
MAX_SECONDS = 20.0


def evaluate(module, batch):
    """One value per row of ``batch`` (columns in the order of the module's inputs).

    Returns
    -------
    values: pyarrow.Array of the declared type, null where the module failed.
    failures: list of [row, reason], in order of rows.
    """
    columns = batch.columns
    if module.kind == "row":
        return _by_row(module, columns, batch.num_rows)
    if module.kind == "grouped":
        return grouped.evaluate(module, columns, batch.num_rows)
    search = _Search(module, columns)
    search.part(0, batch.num_rows)
    values = pa.concat_arrays(search.values) if search.values else pa.nulls(0, module.returns)
    return values, search.failures


class _Search:
    def __init__(self, module, columns):
        self.module = module
        self.columns = columns
        self.values = []
        self.failures = []
        self.n_calls = 0
        self.until = time.monotonic() + MAX_SECONDS

    def part(self, start, end):
        try:
            if start < end:
                self.values.append(_call(self.module, [c.slice(start, end - start) for c in self.columns], end - start))
        except (Exception, SystemExit) as error:
            self.n_calls += 1
            if self.n_calls == 1:
                traceback.print_exc()
            if end - start > 1 and self.n_calls < MAX_CALLS and time.monotonic() < self.until:
                middle = (start + end) // 2
                self.part(start, middle)
                self.part(middle, end)
            else:
                self.values.append(pa.nulls(end - start, self.module.returns))
                self.failures += [[row, reason(error)] for row in range(start, end)]


def _call(module, columns, n_rows):
    if module.kind == "arrow":
        return _checked(convert.from_arrow(module.function(*columns), module.returns), n_rows)
    result = module.function(*[convert.to_pandas(column, name) for column, name in zip(columns, module.inputs)])
    if len(result) != n_rows:
        raise ResultError(f"{len(result)} values for {n_rows} rows")
    return _checked(convert.from_pandas(result, module.returns), n_rows)


def _checked(values, n_rows):
    if len(values) != n_rows:
        raise ResultError(f"{len(values)} values for {n_rows} rows")
    return values


def _by_row(module, columns, n_rows):
    values, failures = [], []
    plain = [convert.to_python(column) for column in columns]
    for row in range(n_rows):
        try:
            result = module.function(*[column[row] for column in plain])
            values.append(convert.from_python([result], module.returns))
        except (Exception, SystemExit) as error:
            if not failures:
                traceback.print_exc()
            values.append(pa.nulls(1, module.returns))
            failures.append([row, reason(error)])
    return (pa.concat_arrays(values) if values else pa.nulls(0, module.returns)), failures
