"""What the proofs share: the binary, the samples, counting, and comparing values."""

import datetime
import json
import math
import os
import subprocess
import time
from pathlib import Path

import deltalake

ROOT = Path(__file__).resolve().parents[3]
REDPOLL = os.environ["REDPOLL"]
SAMPLES = Path(os.environ.get("REDPOLL_SAMPLES", ROOT / "tests/fixtures"))
# Tests do not hear what a developer's shell sets for the command line.
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("REDPOLL_")}


class Gate:
    """Counts checks and prints them."""

    def __init__(self):
        self.passed = self.failed = 0

    def check(self, what, holds, detail=""):
        self.passed += bool(holds)
        self.failed += not holds
        print(f"  {'ok  ' if holds else 'FAIL'} {what}", flush=True)
        if not holds and detail:
            print("       " + str(detail)[-3000:].replace("\n", "\n       "), flush=True)

    def equal(self, what, got, expected):
        self.check(f"{what}: {short(expected)}", got == expected, f"got {short(got, 600)}")


def short(value, limit=90):
    text = str(value)
    return text if len(text) <= limit else f"{text[:limit]}…"


class Ran:
    """A command that ended: exit code, what it printed, how long it took."""

    def __init__(self, process, seconds):
        self.code, self.out, self.err, self.seconds = process.returncode, process.stdout, process.stderr, seconds

    @property
    def text(self):
        return f"exit {self.code}\n{self.out}{self.err}"


def redpoll(folder, *arguments, timeout=240):
    """Runs a command in `folder`, with the warehouse there."""
    begun = time.monotonic()
    command = [REDPOLL, *map(str, arguments)]
    process = subprocess.run(
        command, cwd=folder, env=ENVIRONMENT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout
    )
    return Ran(process, time.monotonic() - begun)


def run(folder, pipeline, *arguments, **variables):
    """Runs a pipeline, a file or its text, over everything that its source holds. Must end well."""
    ended = redpoll(folder, "run", file(folder, pipeline), *settings(variables), *when(arguments))
    assert ended.code == 0, ended.text
    return ended


def when(arguments):
    return arguments if "--until" in arguments else ("--available-now", *arguments)


def file(folder, pipeline):
    """The path of a pipeline that is given as a path or as its text."""
    if isinstance(pipeline, Path):
        return pipeline
    path = Path(folder) / "pipeline.sql"
    path.write_text(pipeline)
    return path


def settings(variables):
    return [part for name, value in variables.items() for part in ("--set", f"{name}={value}")]


def sql(folder, query):
    """The rows of a query, as dicts."""
    asked = redpoll(folder, "sql", query, "--format", "json")
    assert asked.code == 0, asked.text
    return json.loads(asked.out or "[]")


def archive(folder, table):
    """The rows of an archive table, as dicts, read by the `deltalake` of PyPI."""
    return deltalake.DeltaTable(Path(folder) / "warehouse" / table).to_pyarrow_table().to_pylist()


def difference(path, ours, theirs):
    """Where the two values differ, or None. A field that the writer did not have is null in ours."""
    if isinstance(theirs, dict):
        # pyarrow gives a map as pairs.
        ours = dict(ours) if isinstance(ours, list) else ours
        if not isinstance(ours, dict):
            return f"{path}: {short(ours)} against a record"
        for name in ours.keys() | theirs.keys():
            if name not in ours:
                return f"{path}.{name} is missing"
            found = difference(f"{path}.{name}", ours[name], theirs.get(name))
            if found:
                return found
        return None
    if isinstance(theirs, list):
        if not isinstance(ours, list) or len(ours) != len(theirs):
            return f"{path}: {short(ours)} against a list of {len(theirs)}"
        found = (difference(f"{path}[{i}]", a, b) for i, (a, b) in enumerate(zip(ours, theirs)))
        return next(filter(None, found), None)
    if isinstance(theirs, float) and isinstance(ours, float) and math.isnan(theirs) and math.isnan(ours):
        return None
    if isinstance(theirs, datetime.datetime) and isinstance(ours, datetime.datetime):
        return None if ours.timestamp() == theirs.timestamp() else f"{path}: {ours} against {theirs}"
    number = (int, float)
    numbers = type(ours) in number and type(theirs) in number
    if (numbers or type(ours) is type(theirs)) and ours == theirs:
        return None
    return f"{path}: {short(repr(ours))} against {short(repr(theirs))}"


def match(expected, rows, key):
    """Pairs alerts with rows of the same key, each row once. Returns the first difference, or None."""
    left = {}
    for row in rows:
        left.setdefault(key(row), []).append(row)
    if len(rows) != len(expected):
        return f"{len(rows)} rows against {len(expected)} alerts"
    for alert in expected:
        candidates = left.get(key(alert), [])
        differences = [difference("", row, alert) for row in candidates]
        if None not in differences:
            return f"alert {key(alert)}: {differences[0] if differences else 'no row'}"
        candidates.pop(differences.index(None))
    return None
