"""A worker never outlives its executor, and never takes more memory than it was given."""

import os
import resource
import signal
import sys
import threading

PR_SET_PDEATHSIG = 1


def die_with(parent):
    """Ends this process when process ``parent`` does: by the kernel on Linux, by the end of stdin elsewhere."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    # The parent may have died before the signal was asked for; then the process already has another one.
    if os.getppid() != parent:
        os._exit(1)
    held = os.dup(0)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    threading.Thread(target=_wait_for_end, args=(held,), name="lifeline", daemon=True).start()


def _wait_for_end(descriptor):
    while os.read(descriptor, 1):
        pass
    os._exit(0)


def limit_memory(megabytes):
    """Allocations beyond the limit raise MemoryError instead of taking the pod down."""
    # Private writable memory only: RLIMIT_AS would count mapped libraries and files too.
    limit = megabytes << 20
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
