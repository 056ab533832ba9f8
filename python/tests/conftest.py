"""What the tests share: module declarations, and a worker process to talk to."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from redpoll import sqltypes
from redpoll.worker import frames
from redpoll.worker.load import load

SOURCE = Path(__file__).resolve().parent.parent / "src"


@pytest.fixture
def declare(tmp_path):
    """Writes a module's code to a file and loads it as a manifest would declare it."""

    def declare(code, inputs, returns, kind="pandas", function="it", keys=()):
        tmp_path.joinpath("written.py").write_text(code)
        return load({**declaration(tmp_path, inputs, returns, kind, function), "keys": list(keys)})

    return declare


def declaration(directory, inputs, returns, kind="pandas", function="it", name="written"):
    path = function if ":" in function else f"written:{function}"
    return {
        "name": name,
        "function": path,
        "kind": kind,
        "inputs": inputs,
        "returns": returns,
        "dir": str(directory),
    }


def batch(module, *columns):
    arrays = [pa.array(values, type=kind) for values, kind in zip(columns, module.input_types)]
    return pa.RecordBatch.from_arrays(arrays, names=module.inputs)


class Process:
    """A worker process, spoken to as the executor does."""

    def __init__(self, directory, *arguments):
        path = str(directory / "worker.sock")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen()
            listener.settimeout(30)
            self.child = subprocess.Popen(
                [sys.executable, "-u", "-m", "redpoll.worker", "--socket", path, *arguments],
                env={**os.environ, "PYTHONPATH": str(SOURCE)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            self.connection, _ = listener.accept()
        self.hello, _ = frames.read(self.connection)

    def ask(self, header, body=b""):
        frames.write(self.connection, header, body)
        return frames.read(self.connection)

    def evaluate(self, name, inputs, *columns):
        arrays = [pa.array(values, type=sqltypes.to_arrow(kind)) for values, (_, kind) in zip(columns, inputs)]
        data = pa.RecordBatch.from_arrays(arrays, names=[name for name, _ in inputs])
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, data.schema) as writer:
            writer.write_batch(data)
        header, body = self.ask({"call": "evaluate", "module": name}, memoryview(sink.getvalue()))
        return header, pa.ipc.open_stream(pa.py_buffer(body)).read_all()["value"].to_pylist()

    def close(self):
        self.connection.close()
        self.child.stdin.close()
        self.child.wait(30)


@pytest.fixture
def worker(tmp_path):
    process = Process(tmp_path)
    yield process
    process.close()
