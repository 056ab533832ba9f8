"""The worker's processes, spoken to as the executor does."""

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pyarrow as pa

from redpoll import sqltypes
from redpoll.worker import frames

SOURCE = Path(__file__).resolve().parent.parent / "src"
SECONDS = 30


class Parent:
    """A warm parent."""

    def __init__(self, directory, *arguments):
        self.directory = directory
        with listen(directory / "parent.sock") as listener:
            self.child = subprocess.Popen(
                [sys.executable, "-u", "-m", "redpoll.worker", "--socket", listener.getsockname(), *arguments],
                env={**os.environ, "PYTHONPATH": str(SOURCE)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            self.connection, _ = listener.accept()
        self.printed = Lines(self.child.stdout)
        self.hello, _ = frames.read(self.connection)
        self.n_workers = 0

    def ask(self, call, **more):
        frames.write(self.connection, {"call": call, **more})
        return frames.read(self.connection)[0]

    def load(self, module, **limits):
        return self.ask("load", key=module["name"], module=module, seconds=SECONDS, **limits)

    def fork(self, module, **limits):
        """A worker, or what the parent answered instead of it."""
        self.n_workers += 1
        with listen(self.directory / f"{self.n_workers}.sock") as listener:
            path = listener.getsockname()
            told = self.ask("fork", key=module["name"], path=path, seconds=SECONDS, **limits)
            return Worker(self, told, listener, module["inputs"]) if told["ok"] else told

    def close(self):
        self.connection.close()
        self.child.wait(SECONDS)


class Worker:
    def __init__(self, parent, told, listener, inputs):
        self.parent, self.told, self.pid, self.inputs = parent, told, told["pid"], inputs
        printed, _ = listener.accept()
        self.printed = Lines(printed.makefile("rb"))
        self.connection, _ = listener.accept()

    def evaluate(self, *columns):
        """(header, values), or None if the worker died."""
        arrays = [pa.array(values, type=sqltypes.to_arrow(kind)) for values, (_, kind) in zip(columns, self.inputs)]
        data = pa.RecordBatch.from_arrays(arrays, names=[name for name, _ in self.inputs])
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, data.schema) as writer:
            writer.write_batch(data)
        frames.write(self.connection, {"call": "evaluate"}, memoryview(sink.getvalue()))
        answer = frames.read(self.connection)
        if answer is None:
            return None
        header, body = answer
        return header, pa.ipc.open_stream(pa.py_buffer(body)).read_all()["value"].to_pylist()

    def end(self, grace=SECONDS):
        return self.parent.ask("end", pid=self.pid, grace=grace)


class Lines:
    """What a process prints, read as it comes: a pipe that nobody reads would stop it."""

    def __init__(self, file):
        self.lines = []
        self._reader = threading.Thread(target=self._read, args=(file,), daemon=True)
        self._reader.start()

    def _read(self, file):
        self.lines += (line.decode(errors="replace").rstrip("\n") for line in file)

    def all(self):
        """Once the process has closed it."""
        self._reader.join(SECONDS)
        return self.lines


def listen(path):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    listener.settimeout(SECONDS)
    return listener
