"""What a worker may take: memory for its life, processor time for each call."""

import math
import os
import resource
import time

# Of 0 to 1000: when memory runs out, the kernel ends a worker before the executor.
OOM_SCORE = "500"


def begin(memory_mb):
    """Limits this process and what it starts. Allocations beyond ``memory_mb`` MiB raise MemoryError."""
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write(OOM_SCORE)
    except OSError:
        pass
    # The image of a worker that crashed is hundreds of MB, written while the batch waits.
    _set(resource.RLIMIT_CORE, 0)
    if memory_mb:
        # Private writable memory only: RLIMIT_AS would count mapped libraries and files too.
        _set(resource.RLIMIT_DATA, memory_mb << 20)


def begin_call(cpu_seconds):
    """From now on at most so many seconds of processor time, over all threads; then SIGXCPU ends this process."""
    if cpu_seconds:
        _, hard = resource.getrlimit(resource.RLIMIT_CPU)
        resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(time.process_time()) + cpu_seconds, hard))


def resident_kib():
    """Memory of this process that is in RAM now."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * (os.sysconf("SC_PAGE_SIZE") >> 10)
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _set(limit, value):
    _, hard = resource.getrlimit(limit)
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(limit, (value, value))
