"""The warm parent: imports the modules of one environment, and forks their workers.

It starts no threads, because a fork has only the thread that forked: locks of others would stay locked for ever. A
module that starts threads when it is imported is therefore not imported here, but by each of its workers.
"""

import contextlib
import gc
import os
import socket
import sys
import time
import traceback

import pyarrow as pa

from redpoll import __version__
from redpoll.worker import convert, frames, limits, network, serve
from redpoll.worker.guard import Guards, flush
from redpoll.worker.load import LoadError, load


def run(path, open_because):
    """Answers an executor until it closes the socket. ``open_because``: why the kernel does not keep modules from the network, if it should."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        parent = Parent(Guards([connection.fileno()]))
        versions = {"python": sys.version.split()[0], "pyarrow": pa.__version__, "redpoll": __version__}
        hello = {"ok": True, "pid": os.getpid(), "versions": versions, "network": open_because or ""}
        frames.write(connection, hello)
        while (message := frames.read(connection)) is not None:
            header, _ = message
            start = time.perf_counter()
            try:
                answer = parent.answer(header)
            except LoadError as error:
                answer = {"ok": False, "error": str(error)}
            except Exception as error:
                traceback.print_exc()
                answer = {"ok": False, "error": f"{type(error).__name__}: {error}"}
            answer["micros"] = int((time.perf_counter() - start) * 1e6)
            frames.write(connection, answer)


class Parent:
    def __init__(self, guards):
        self._guards = guards
        # By name and fingerprint: what was imported, or the declaration of what workers import.
        self._modules = {}
        self._workers = {}

    def answer(self, header):
        calls = {"load": self._load, "fork": self._fork, "end": self._end}
        return calls[header.pop("call")](**{name: value for name, value in header.items() if name != "body"})

    def _load(self, key, module, seconds, memory_limit_mb=None):
        """Imports a module here, if it imports in a trial within ``seconds`` and starts no threads."""
        if key not in self._modules:
            serve.mark(module["name"])
            network.caller = module["name"]
            threads = self._try(module, seconds, memory_limit_mb)
            self._modules[key] = module if threads > 1 else _import(module)
            # What is loaded is not looked at by collections any more: its pages stay shared with all workers.
            gc.collect()
            gc.freeze()
        imported = not isinstance(self._modules[key], dict)
        return {"ok": True, "imported": imported}

    def _try(self, module, seconds, memory_limit_mb):
        """Imports a module in a process of its own, and gives how many threads that has then."""

        def work(ready):
            limits.begin(memory_limit_mb)
            try:
                load(module)
                ready(threads=_threads())
            except LoadError as error:
                ready(error=str(error))

        trial = self._guards.start(work)
        outcome = trial.ready(seconds)
        ended = trial.end()
        if outcome is None:
            raise LoadError(f"importing `{module['function'].partition(':')[0]}` {_how(ended, seconds)}")
        if "error" in outcome:
            raise LoadError(outcome["error"])
        return outcome["threads"]

    def _fork(self, key, path, seconds, memory_limit_mb=None, cpu_limit_s=None):
        """Starts a worker, which connects to ``path`` twice: for what it prints, and for calls."""
        module = self._modules[key]
        bounds = serve.Bounds(memory_limit_mb, cpu_limit_s)
        worker = self._guards.start(lambda ready: serve.run(path, module, bounds, ready))
        outcome = worker.ready(seconds)
        if outcome is None or "error" in outcome:
            ended = worker.end()
            return {"ok": False, "error": outcome["error"] if outcome else f"it {_how(ended, seconds)}"}
        self._workers[worker.pid] = worker
        return {"ok": True, "pid": worker.pid}

    def _end(self, pid, grace):
        return {"ok": True, **self._workers.pop(pid).end(grace)}


def _import(module):
    """The module, or its declaration if it cannot be imported beside those that are here."""
    try:
        with _silence():
            loaded = load(module)
    except LoadError:
        return module
    _convert_nothing(loaded)
    return loaded


def _convert_nothing(module):
    """What conversions import when they are first used, pandas above all, is there for all workers."""
    with contextlib.suppress(Exception):
        convert.from_python([], module.returns)
        if module.kind in ("pandas", "grouped"):
            columns = [convert.to_pandas(pa.nulls(0, kind), "column") for kind in module.input_types]
            convert.from_pandas(columns[0], module.input_types[0])


@contextlib.contextmanager
def _silence():
    """The trial has printed it all."""
    kept = [os.dup(1), os.dup(2)]
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1), os.dup2(nowhere, 2)
    try:
        yield
    finally:
        flush()
        os.dup2(kept[0], 1), os.dup2(kept[1], 2)
        for descriptor in (nowhere, *kept):
            os.close(descriptor)


def _threads():
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        import threading

        return threading.active_count()


def _how(ended, seconds):
    if "signal" not in ended:
        return f"ended its process with exit code {ended['code']}"
    if ended["signal"] == 9:
        return f"was killed, or took longer than {seconds:g} s"
    return f"killed its process with signal {ended['signal']}"
