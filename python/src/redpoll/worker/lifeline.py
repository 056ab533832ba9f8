"""Processes that end with others: the parent with its executor, a worker with its guard."""

import os
import signal
import sys

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


def die_with(parent):
    """Ends this process when process ``parent`` does, by the kernel on Linux.

    Elsewhere the end of its socket or pipe tells it, once it looks.
    """
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    # The parent may have died before the signal was asked for; then the process already has another one.
    if os.getppid() != parent:
        os._exit(1)


def adopt_orphans():
    """Makes this process the parent of what its descendants leave behind, instead of the machine's first process."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def leave_group():
    """A session of its own, so that signals to the old process group pass it by."""
    if os.getpid() != os.getpgid(0):
        os.setsid()


def _prctl(option, value):
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(option, int(value), 0, 0, 0)
