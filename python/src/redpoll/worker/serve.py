"""A worker: evaluates one module for the executor, one call after another, until the socket closes."""

import faulthandler
import os
import socket
import traceback
from dataclasses import dataclass
from typing import Optional

import pyarrow as pa

from redpoll.worker import frames, limits, network
from redpoll.worker.evaluate import evaluate
from redpoll.worker.guard import flush
from redpoll.worker.load import LoadError, load

# One starts each call's lines in the log; no module prints it by chance.
MARK = b"\x1e"


@dataclass(frozen=True)
class Bounds:
    """What a worker may take: MiB of data, and seconds of processor time for each call."""

    memory_limit_mb: Optional[int] = None
    cpu_limit_s: Optional[int] = None


def run(path, module, bounds, ready):
    """Connects to ``path`` and serves ``module``: one that is imported, or the declaration of one to import."""
    with socket.socket(socket.AF_UNIX) as printed:
        printed.connect(path)
        os.dup2(printed.fileno(), 1)
        os.dup2(printed.fileno(), 2)
    # Where a module crashed is in the log.
    faulthandler.enable()
    limits.begin(bounds.memory_limit_mb)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        if isinstance(module, dict):
            try:
                network.caller = module["name"]
                module = load(module)
            except LoadError as error:
                return ready(error=str(error))
        network.caller = module.name
        ready()
        own = os.getpid()
        while (message := frames.read(connection)) is not None:
            answer, values = _answer(module, bounds, message[1])
            if os.getpid() != own:
                # A child that the module forked and let return: the socket is its parent's.
                os._exit(0)
            flush()
            frames.write(connection, answer, values)


def _answer(module, bounds, body):
    mark(module.name)
    limits.begin_call(bounds.cpu_limit_s)
    try:
        batch = pa.ipc.open_stream(pa.py_buffer(body)).read_next_batch()
        values, failures = evaluate(module, batch)
        return {"ok": True, "failures": failures, "resident_kib": limits.resident_kib()}, _stream(values)
    except Exception as error:
        traceback.print_exc()
        return {"ok": False, "error": f"{type(error).__name__}: {error}"}, b""


def mark(name):
    os.write(1, MARK + name.encode() + b"\n")


def _stream(values):
    batch = pa.RecordBatch.from_arrays([values], names=["value"])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return memoryview(sink.getvalue())
