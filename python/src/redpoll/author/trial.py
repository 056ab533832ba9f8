"""A science module on alerts, in this process: what ``redpoll module test`` does, for a notebook.

The function is called by the code that calls it at night (``redpoll.worker.evaluate``): the same types, the same
batches, the same search for the rows that raise.
"""

import html
import resource
import time
from collections import Counter
from dataclasses import dataclass, field

import pyarrow as pa

from redpoll import sqltypes
from redpoll.author import columns
from redpoll.worker.evaluate import evaluate
from redpoll.worker.load import Module

MAX_CALLS = 32
BARS = 12
WIDTH = 40
SHOWN = 5


def test(function, alerts, inputs=None, against=None, batch_rows=4096, id=None):
    """Runs a declared function on alerts and sums up what it gave.

    Parameters
    ----------
    function: callable
        One that ``@science_module`` declares.
    alerts: pyarrow.Table, pandas.DataFrame, list of dict, or str
        Alerts as their survey nests them, or the path of a ``.parquet`` file, an ``.avro`` file (with ``fastavro``) or
        a folder of either.
    inputs: dict of str to str or sequence, optional
        Where an input comes from, as a dotted path (``{"mag": "candidate.magpsf"}``), or its values. Without it the
        column of that name is taken, else the field of that name of the detection; for a list, the history and the
        detection after it.
    against: str, sequence or callable, optional
        What it gave before: a column of the alerts, values, or another declared function. Rows that differ are told.
    batch_rows: int
        Most rows of one call.
    id: str, optional
        Column that names an alert; without it the first whole number.

    Returns
    -------
    Trial, which shows itself in a notebook.

    Raises
    ------
    TypeError
        If the function is not declared.
    KeyError
        If an input has no column; the message has the nearest name.
    """
    module = _declared(function)
    table = columns.read(alerts)
    batch = columns.batch(table, module, inputs or {})
    trial = _run(module, batch, batch_rows)
    trial.ids = columns.ids(table, id)
    if against is not None:
        trial.before = _before(against, table, inputs, batch_rows, module)
    return trial


test.__test__ = False  # It is no test of pytest's, wherever it is imported.


def _declared(function):
    own = getattr(function, "__redpoll__", None)
    if own is None:
        name = getattr(function, "__name__", repr(function))
        raise TypeError(f"{name} is not declared: put @redpoll.science_module(inputs=…, returns=…) above it")
    return Module(
        name=own.name,
        kind=own.kind,
        function=getattr(function, "func", function),
        inputs=[name for name, _ in own.inputs],
        input_types=[sqltypes.to_arrow(kind) for _, kind in own.inputs],
        returns=sqltypes.to_arrow(own.returns),
        keys=[position for position, (name, _) in enumerate(own.inputs) if name in own.keys],
    )


def _run(module, batch, batch_rows):
    # What came together is grouped together.
    most = batch.num_rows if module.kind == "grouped" else min(batch_rows, -(-batch.num_rows // MAX_CALLS))
    rows = max(1, most)
    values, failures, micros = [pa.nulls(0, module.returns)], [], []
    memory = _peak_mib()
    for start in range(0, batch.num_rows, rows):
        part = batch.slice(start, rows)
        begun = time.perf_counter()
        given, failed = evaluate(module, part)
        micros.append((time.perf_counter() - begun) * 1e6 / part.num_rows)
        values.append(given)
        failures += [(start + row, reason) for row, reason in failed]
    n_bytes = sum(column.nbytes for column in batch.columns)
    return Trial(module.name, pa.concat_arrays(values), failures, micros, n_bytes, _peak_mib() - memory)


def _before(against, table, inputs, batch_rows, module):
    if callable(against):
        other = _declared(against)
        return _run(other, columns.batch(table, other, inputs or {}), batch_rows).values
    if isinstance(against, str):
        return columns.column(table, against).combine_chunks()
    return pa.array(against, type=module.returns, from_pandas=True)


def _peak_mib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@dataclass
class Trial:
    """What a function gave for some alerts. ``values`` has one value a row, ``failures`` (row, reason)."""

    name: str
    values: pa.Array
    failures: list
    micros: list
    n_bytes: int
    memory_mib: float
    ids: list = field(default_factory=list)
    before: object = None

    @property
    def differing(self):
        """Rows whose value is another than before: (id, before, now)."""
        if self.before is None:
            return []
        pairs = enumerate(zip(self.before.to_pylist(), self.values.to_pylist()))
        return [(self.ids[row], old, new) for row, (old, new) in pairs if not _same(old, new)]

    def summary(self):
        """The figures, as (name, text)."""
        rows = len(self.values)
        micros = sorted(self.micros) or [0.0]
        lines = [
            ("rows", f"{rows}, {self.values.null_count} null, {len(self.failures)} failed"),
            ("type", _type_name(self.values.type)),
            ("time", f"{_at(micros, 0.5):.1f} µs per alert (median of calls), {_at(micros, 0.99):.1f} µs (p99)"),
            ("sent", f"{self.n_bytes / max(rows, 1):.0f} bytes per alert"),
            ("memory", f"{self.memory_mib:.0f} MiB more than before"),
        ]
        if self.before is not None:
            lines.append(("before", f"{len(self.differing)} of {rows} rows differ"))
        return lines

    def parts(self):
        """(name, values) of what is drawn: the values, or each field of a struct."""
        if not pa.types.is_struct(self.values.type):
            return [(self.name, self.values.to_pylist())]
        fields = [self.values.type.field(i).name for i in range(self.values.type.num_fields)]
        return [(name, part.to_pylist()) for name, part in zip(fields, self.values.flatten())]

    def exceptions(self):
        """(reason, number of rows, ids of the first ones), the most frequent first."""
        counts = Counter(reason for _, reason in self.failures)
        alerts = {reason: [] for reason in counts}
        for row, reason in self.failures:
            alerts[reason].append(self.ids[row])
        return [(reason, n, alerts[reason][:SHOWN]) for reason, n in counts.most_common()]

    def __repr__(self):
        lines = [self.name, *(f"  {name:<8} {text}" for name, text in self.summary())]
        for reason, n, ids in self.exceptions():
            lines.append(f"  {n} × {reason}: {', '.join(map(str, ids))}{', …' if n > len(ids) else ''}")
        lines += [f"  {ident}: {old} before, {new} now" for ident, old, new in self.differing[:SHOWN]]
        for name, values in self.parts():
            bars = histogram(values)
            most = max((n for _, n in bars), default=1)
            lines += ["", f"  {name}", *(f"  {text:>12} │{'█' * round(WIDTH * n / most)} {n}" for text, n in bars)]
        return "\n".join(lines)

    def _repr_html_(self):
        told = [(name, html.escape(text)) for name, text in self.summary()]
        told += [(f"{n} ×", html.escape(f"{reason}: {ids}")) for reason, n, ids in self.exceptions()]
        differing = self.differing[:SHOWN]
        told += [(html.escape(str(i)), html.escape(f"{old} before, {new} now")) for i, old, new in differing]
        rows = "".join(f"<tr><th style='text-align:left'>{name}</th><td>{text}</td></tr>" for name, text in told)
        drawn = "".join(_drawn(name, histogram(values)) for name, values in self.parts())
        return f"<div><b>{html.escape(self.name)}</b><table>{rows}</table>{drawn}</div>"


def histogram(values):
    """(label, number) of each bar: equal parts of the range of numbers, else the most frequent values."""
    values = [len(value) if isinstance(value, (list, dict)) else value for value in values]
    numbers = [v for v in values if isinstance(v, (int, float)) and not isinstance(v, bool) and abs(v) < float("inf")]
    if not numbers or len(set(numbers)) <= BARS:
        return [(str(value), n) for value, n in Counter(v for v in values if v is not None).most_common(BARS)]
    low, high = min(numbers), max(numbers)
    width = (high - low) / BARS
    counts = Counter(min(int((v - low) / width), BARS - 1) for v in numbers)
    return [(f"{low + width * i:.4g}", counts[i]) for i in range(BARS)]


def _drawn(name, bars):
    most = max((n for _, n in bars), default=1)
    bar = "<div style='background:#4878a8;height:0.8em;width:{}px'></div>"
    row = f"<tr><td style='text-align:right'>{{}}</td><td>{bar}</td><td>{{}}</td></tr>"
    lines = "".join(row.format(html.escape(text), round(240 * n / most), n) for text, n in bars)
    return f"<p>{html.escape(name)}</p><table>{lines}</table>"


def _at(ordered, share):
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def _same(old, new):
    both_nan = isinstance(old, float) and isinstance(new, float) and old != old and new != new
    return both_nan or old == new


def _type_name(kind):
    named = [name for name in sqltypes.SCALARS if sqltypes.to_arrow(name) == kind]
    return next(iter(named), str(kind))
