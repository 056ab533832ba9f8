"""Answers the executor's requests, one after another, until it closes the socket."""

import os
import socket
import sys
import time
import traceback

import pyarrow as pa

from redpoll import __version__
from redpoll.worker import frames
from redpoll.worker.evaluate import evaluate
from redpoll.worker.load import LoadError, load

# One starts each module's lines in the log; no module prints it by chance.
MARK = b"\x1e"


def run(path):
    modules = {}
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        versions = {"python": sys.version.split()[0], "pyarrow": pa.__version__, "redpoll": __version__}
        frames.write(connection, {"ok": True, "pid": os.getpid(), "versions": versions})
        while (message := frames.read(connection)) is not None:
            header, body = message
            try:
                header, body = _answer(modules, header, body)
            except LoadError as error:
                header, body = {"ok": False, "error": str(error)}, b""
            except Exception as error:
                traceback.print_exc()
                header, body = {"ok": False, "error": f"{type(error).__name__}: {error}"}, b""
            sys.stdout.flush()
            sys.stderr.flush()
            frames.write(connection, header, body)


def _answer(modules, header, body):
    if header["call"] == "load":
        declared = header["module"]
        _mark(declared["name"])
        for key in header.get("forget", []):
            modules.pop(key, None)
        # Two versions of a module may be loaded side by side.
        modules[declared.get("key", declared["name"])] = module = load(declared)
        return {"ok": True, "doc": module.doc}, b""
    module = modules[header["module"]]
    _mark(module.name)
    batch = pa.ipc.open_stream(pa.py_buffer(body)).read_next_batch()
    start = time.perf_counter()
    values, failures = evaluate(module, batch)
    busy = int((time.perf_counter() - start) * 1e6)
    return {"ok": True, "failures": failures, "busy_micros": busy}, _stream(values)


def _mark(name):
    os.write(1, MARK + name.encode() + b"\n")


def _stream(values):
    batch = pa.RecordBatch.from_arrays([values], names=["value"])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return memoryview(sink.getvalue())
