"""``python -m redpoll.package scan PACKAGE``: what the package has for Redpoll, as JSON on stdout."""

import argparse
import json
import sys
from pathlib import Path


def main():
    parser = argparse.ArgumentParser(prog="redpoll.package", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    scanning = commands.add_parser("scan", help="look at every module of a package")
    scanning.add_argument("package", help="name of the package as it is imported")
    scanning.add_argument("--survey", help="only what belongs to this survey, and to none")
    scanning.add_argument("--samples", type=Path, help="folder with <survey>.parquet, sample alerts to run functions on")
    scanning.add_argument("--timeout", type=float, default=120.0, help="longest time for one module, in seconds")
    looking = commands.add_parser("look", help="look at functions of one module (started by scan)")
    looking.add_argument("request", help="JSON: module, functions, and the file for the answers")
    arguments = parser.parse_args()

    if arguments.command == "look":
        from redpoll.package import look

        return look.answer(json.loads(arguments.request))

    from redpoll.package import scan

    entries = scan.scan(arguments.package, arguments.survey, arguments.samples, arguments.timeout)
    json.dump([entry.to_json() for entry in entries], sys.stdout)


if __name__ == "__main__":
    main()
