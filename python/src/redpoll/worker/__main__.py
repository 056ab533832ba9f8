"""``python -m redpoll.worker --socket PATH``: connects to an executor and evaluates modules for it."""

import argparse
import os

# Workers are parallel to each other: a thread pool of BLAS in each would fight for the same cores. This stands
# before anything imports numpy, which reads it once.
for _name in ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "VECLIB_MAXIMUM"):
    os.environ[f"{_name}_NUM_THREADS"] = "1"


def main():
    parser = argparse.ArgumentParser(prog="redpoll.worker", description=__doc__)
    parser.add_argument("--socket", required=True, help="Unix socket on which the executor listens")
    parser.add_argument("--parent", type=int, help="process id of the executor: the worker dies with it")
    parser.add_argument("--memory-limit-mb", type=int, help="most memory for data, in MiB; beyond it MemoryError")
    arguments = parser.parse_args()

    from redpoll.worker import lifeline

    if arguments.parent:
        lifeline.die_with(arguments.parent)
    if arguments.memory_limit_mb:
        lifeline.limit_memory(arguments.memory_limit_mb)

    from redpoll.worker import serve

    serve.run(arguments.socket)


if __name__ == "__main__":
    main()
