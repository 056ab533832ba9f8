"""What the proofs share: the binary, the samples, and counting."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import deltalake

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tests/gates"))

import lib  # noqa: E402
from compare import difference, match, short  # noqa: E402, F401

REDPOLL = os.environ["REDPOLL"]
# Real alerts of every version that we have; where they are not, the few that are in the repository.
ALL_SAMPLES = any(lib.SAMPLES.glob("*/*.avro"))
SAMPLES = lib.SAMPLES if ALL_SAMPLES else ROOT / "tests/fixtures"
# Tests do not hear what a developer's shell sets for the command line.
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("REDPOLL_")}


class Gate:
    """Counts checks and prints them."""

    def __init__(self):
        self.passed = self.failed = self.skipped = 0

    def check(self, what, holds, detail=""):
        self.passed += bool(holds)
        self.failed += not holds
        print(f"  {'ok  ' if holds else 'FAIL'} {what}", flush=True)
        if not holds and detail:
            print("       " + str(detail)[-3000:].replace("\n", "\n       "), flush=True)

    def skip(self, what, why):
        self.skipped += 1
        print(f"  SKIPPED {what}: {why}", flush=True)

    def equal(self, what, got, expected):
        self.check(f"{what}: {short(expected)}", got == expected, f"got {short(got, 600)}")


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
