"""A process between the parent and each worker, which leaves nothing of the worker behind.

A module may start processes, and those may leave its process group and its session. The guard adopts whatever the
worker's descendants leave, and kills all of it when the worker ends, when it is told to, and when the parent dies:
then the pipe closes that only the parent holds open. It loads nothing and starts no threads.
"""

import json
import os
import select
import signal
import sys
import time
import traceback

from redpoll.worker import lifeline

# Once a guard is told to end, its worker is killed: this is only for a kernel that is very busy.
END_SECONDS = 10.0
CHILDREN = "/proc/self/task/{0}/children"


class Guards:
    """Starts guarded processes from this one, which has to be without threads."""

    def __init__(self, private=()):
        """``private``: descriptors of this process that workers must not have."""
        self._life, held = os.pipe()
        self._private = [held, *private]

    def start(self, work):
        """Runs ``work(ready)`` in a guarded process; ``ready(**told)`` hands its result to :meth:`Guarded.ready`."""
        report, write = os.pipe()
        flush()
        pid = os.fork()
        if pid == 0:
            for descriptor in [report, *self._private]:
                os.close(descriptor)
            _run(lambda: _guard(self._life, write, work))
        os.close(write)
        self._private.append(report)
        return Guarded(pid, report, self._private)


class Guarded:
    """A guarded process, as its parent sees it."""

    def __init__(self, guard, report, private):
        self._guard = guard
        self._report = report
        self._private = private
        self._text = b""
        self.pid = None
        self.ended = None

    def ready(self, seconds):
        """What it told when it was ready; None if it ended before or takes longer."""
        until = time.monotonic() + seconds
        while (told := self._next(until)) is not None:
            if "ready" in told:
                return told["ready"]
        return None

    def end(self, grace=0.0):
        """How it ended: ``signal`` or ``code``, and ``peak_kib``; killed if it has not within ``grace`` seconds."""
        self._await_end(time.monotonic() + grace)
        if self.ended is None:
            os.kill(self._guard, signal.SIGTERM)
            self._await_end(time.monotonic() + END_SECONDS)
        if self.ended is None:
            os.kill(self._guard, signal.SIGKILL)
        os.waitpid(self._guard, 0)
        os.close(self._report)
        self._private.remove(self._report)
        return self.ended or {"signal": signal.SIGKILL}

    def _await_end(self, until):
        while self.ended is None and self._next(until) is not None:
            pass

    def _next(self, until):
        while b"\n" not in self._text:
            left = max(0.0, until - time.monotonic())
            if not select.select([self._report], [], [], left)[0]:
                return None
            data = os.read(self._report, 1 << 16)
            if not data:
                return None
            self._text += data
        line, self._text = self._text.split(b"\n", 1)
        told = json.loads(line)
        self.pid = told.get("worker", self.pid)
        self.ended = told.get("ended", self.ended)
        return told


def _run(work):
    """Runs a forked process to its end, whatever happens: it must never go on as its parent."""
    code = 1
    try:
        work()
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        flush()
        os._exit(code)


def flush():
    """Modules may have closed what they print to."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            pass


def _guard(life, report, work):
    wake, woken = os.pipe()
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(woken)
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    lifeline.adopt_orphans()
    guard, worker = os.getpid(), os.fork()
    if worker == 0:
        _run(lambda: _work(guard, (life, wake, woken), report, work))
    _tell(report, worker=worker)
    ended = _watch(life, wake, worker) or _reap(worker)
    _kill_rest(worker)
    _tell(report, ended=ended or _reap(worker) or {"signal": int(signal.SIGKILL)})


def _work(guard, private, report, work):
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    for descriptor in private:
        os.close(descriptor)
    os.setsid()
    lifeline.die_with(guard)

    def ready(**told):
        # Its guard tells the worker's id too, but perhaps later.
        _tell(report, worker=os.getpid(), ready=told)
        os.close(report)

    work(ready)


def _tell(report, **line):
    try:
        os.write(report, json.dumps(line).encode() + b"\n")
    except BrokenPipeError:
        pass  # The parent is gone; the end comes by itself.


# How the worker ended, by its id, once it was seen.
_seen = {}


def _watch(life, wake, worker):
    """Waits until the worker ends, giving how, or until it has to: then None."""
    while True:
        ready, _, _ = select.select([life, wake], [], [])
        if life in ready or signal.SIGTERM in os.read(wake, 256):
            return None
        if (ended := _reap(worker)) is not None:
            return ended


def _reap(worker):
    """Takes leave of every child that has ended."""
    try:
        while True:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
            if pid == 0:
                break
            if pid == worker:
                died = os.WIFSIGNALED(status)
                how = {"signal": os.WTERMSIG(status)} if died else {"code": os.WEXITSTATUS(status)}
                _seen[worker] = {**how, "peak_kib": usage.ru_maxrss}
    except ChildProcessError:
        pass
    return _seen.get(worker)


def _kill_rest(worker):
    """Kills children until there are none: those of a child that was killed become ours."""
    while True:
        for pid in _children(worker):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        _reap(worker)
        try:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        time.sleep(0.001)


def _children(worker):
    try:
        with open(CHILDREN.format(os.getpid())) as file:
            return [int(pid) for pid in file.read().split()]
    except OSError:
        return [] if worker in _seen else [worker]
