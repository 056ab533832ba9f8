"""``python -m redpoll.worker --socket PATH``: connects to an executor, imports modules and forks workers for it."""

import argparse
import os

# Workers are parallel to each other: a thread pool of BLAS in each would fight for the same cores. This stands
# before anything imports numpy, which reads it once.
for _name in ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "VECLIB_MAXIMUM"):
    os.environ[f"{_name}_NUM_THREADS"] = "1"
# Workers are forked, and threads are not: pyarrow's allocator would start one when it is loaded.
os.environ["JE_ARROW_MALLOC_CONF"] = "background_thread:false"


def main():
    parser = argparse.ArgumentParser(prog="redpoll.worker", description=__doc__)
    parser.add_argument("--socket", required=True, help="Unix socket on which the executor listens")
    parser.add_argument("--parent", type=int, help="process id of the executor: all workers die with it")
    parser.add_argument("--network", action="store_true", help="modules may use the network")
    arguments = parser.parse_args()

    from redpoll.worker import lifeline, network

    # What a terminal sends to the executor, such as Ctrl-C, is not for modules in the middle of a batch.
    lifeline.leave_group()
    open_because = None if arguments.network else network.isolate()
    if arguments.parent:
        lifeline.die_with(arguments.parent)

    from redpoll.worker import parent

    parent.run(arguments.socket, open_because)


if __name__ == "__main__":
    main()
