"""Runs a command and says what its whole process tree took: CPU, memory, time.

CPU is what the kernel accounts to children once they are waited for. This process adopts orphans of the tree (Linux:
`PR_SET_CHILD_SUBREAPER`), so that workers which outlive their parent count too.
"""
import ctypes
import dataclasses
import os
import pathlib
import resource
import subprocess
import threading
import time

PAUSE = 0.1
PR_SET_CHILD_SUBREAPER = 36
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclasses.dataclass
class Cost:
    """What a command took. `first` is when its first result was there, `load` the machine's load average meanwhile."""

    wall: float
    cpu: float
    peak_mib: float
    first: float | None
    load: float


class Failed(Exception):
    """The command did not end well."""


def run(command, seen=None, cwd=None, env=None, limit=3600):
    """The command's `Cost`; `seen()` says whether a first result is there. Only one such run at a time."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    load, before, begun = os.getloadavg()[0], used(), time.monotonic()
    watch = Watch(begun, seen)
    child = subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                             cwd=cwd, env={**os.environ, **(env or {})})
    watch.start()
    killer = threading.Timer(limit, child.kill)
    killer.start()
    output = child.stdout.read()
    code = child.wait()
    wall = time.monotonic() - begun
    killer.cancel()
    adopted()
    watch.stop()
    if code != 0:
        raise Failed(f"{' '.join(map(str, command))} ended with {code}:\n{output[-3000:]}")
    return Cost(wall, used() - before, watch.peak / 2**20, watch.first, (load + os.getloadavg()[0]) / 2)


def used():
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return children.ru_utime + children.ru_stime


def adopted(seconds=20):
    """Waits for orphans of the tree, so that their time counts."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                time.sleep(0.05)
        except ChildProcessError:
            return
    raise Failed(f"processes of the tree still run {seconds} s after its end")


class Watch(threading.Thread):
    """Looks at the tree every now and then: the sum of resident memory (pages that processes share count in each)."""

    def __init__(self, begun, seen):
        super().__init__(daemon=True)
        self.begun, self.seen = begun, seen
        self.peak, self.first, self.known = 0, None, set()
        self.ended = threading.Event()

    def run(self):
        while not self.ended.wait(PAUSE):
            self.look()

    def look(self):
        if self.seen and self.first is None and self.seen():
            self.first = time.monotonic() - self.begun
        sizes = resident()
        # A process counts from its second sighting: one that has just been forked shows its parent's memory as its own.
        self.peak = max(self.peak, sum(size for pid, size in sizes.items() if pid in self.known))
        self.known = set(sizes)

    def stop(self):
        self.ended.set()
        self.join()
        self.look()


def resident():
    """{pid: bytes of resident memory} of all processes below this one."""
    parents, sizes = {}, {}
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            sizes[int(folder.name)] = int((folder / "statm").read_text().split()[1]) * PAGE
        except (OSError, IndexError):
            continue  # gone
    found, below = {}, [os.getpid()]
    while below:
        below = [pid for pid, parent in parents.items() if parent in below]
        found.update((pid, sizes.get(pid, 0)) for pid in below)
    return found
