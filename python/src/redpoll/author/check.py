"""``python -m redpoll.author.check``: what is wrong with a module's files, before it sees an alert.

Reads a declaration as JSON from stdin (what a worker gets to load a module, and ``imports``: whether this is the
module's own environment, so that imports can be tried) and writes a JSON list of problems, each with ``file``,
``line`` and ``column`` (from 1), ``message`` and ``remedy``.
"""

import ast
import difflib
import importlib.util
import json
import os
import sys
from pathlib import Path

from redpoll.author import imports, names

# What science code usually calls packages.
USUAL = {
    "np": "import numpy as np",
    "pd": "import pandas as pd",
    "pa": "import pyarrow as pa",
    "pc": "import pyarrow.compute as pc",
    "plt": "import matplotlib.pyplot as plt",
    "u": "import astropy.units as u",
    "SkyCoord": "from astropy.coordinates import SkyCoord",
    "science_module": "from redpoll import science_module",
}


def check(declared):
    """The problems of a module: those of its files first; if there are none, those of loading it."""
    directory = Path(declared["dir"])
    found = []
    for file in sorted(directory.rglob("*.py")):
        if not _is_left_out(file.relative_to(directory)):
            found += check_file(file, declared)
    if not found and declared.get("imports", True):
        found += _loaded(declared, directory)
    return found


def check_file(file, declared):
    """The problems of one file."""
    text = file.read_bytes()
    try:
        tree = ast.parse(text, str(file))
    except SyntaxError as error:
        remedy = "correct the syntax; it is read by Python %d.%d" % sys.version_info[:2]
        return [_problem(file, error.lineno or 1, error.offset or 1, error.msg, remedy)]
    # One line mends all places of a name.
    first = {node.id: (node, visible) for node, visible in reversed(names.undefined(tree))}
    found = [_undefined(file, node, visible) for node, visible in first.values()]
    if declared.get("imports", True):
        directory = Path(declared["dir"])
        _look_beside(directory)
        told = imports.problems(tree, lambda name: _is_beside(file.parent, name) or _is_beside(directory, name))
        found += [_problem(file, node.lineno, node.col_offset + 1, *text) for node, *text in told]
    if declared["function"].partition(":")[0] == file.stem and file.parent == Path(declared["dir"]):
        found += _function(file, tree, declared)
    return sorted(found, key=lambda problem: (problem["line"], problem["column"]))


def _is_left_out(file):
    """Whether a file beside the manifest is no part of what runs."""
    if file.name.startswith("test_") or file.name == "conftest.py":
        return True
    return any(part in ("tests", "samples", "__pycache__") or part.startswith(".") for part in file.parts)


def _undefined(file, node, visible):
    name = node.id
    near = difflib.get_close_matches(name, visible - {name}, n=1)
    if name in visible:
        remedy = f"a name of the class: write `self.{name}`"
    elif name in USUAL:
        remedy = f"add `{USUAL[name]}`"
    elif near:
        remedy = f"did you mean `{near[0]}`?"
    elif _is_package(name):
        remedy = f"add `import {name}`"
    else:
        remedy = "import or define it"
    what = "is used but not imported" if name in USUAL or (not near and _is_package(name)) else "is not defined"
    return _problem(file, node.lineno, node.col_offset + 1, f"`{name}` {what}", remedy)


def _is_package(name):
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def _is_beside(directory, name):
    first = name.split(".")[0]
    return directory.joinpath(f"{first}.py").is_file() or directory.joinpath(first).is_dir()


def _look_beside(directory):
    if str(directory) not in sys.path:
        sys.path.append(str(directory))


def _function(file, tree, declared):
    name = declared["function"].partition(":")[2]
    functions = {n.name: n for n in tree.body if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))}
    if name not in functions:
        if name in names.bound(tree):
            return []  # a class, or what another function made: loading it tells
        near = difflib.get_close_matches(name, functions, n=1)
        known = ", ".join(f"`{known}`" for known in functions) or "none"
        known = f"its functions are: {known}"
        remedy = f"did you mean `{near[0]}`? correct `function` in module.toml" if near else known
        return [_problem(file, 1, 1, f"there is no function `{name}`", remedy)]
    return _parameters(file, functions[name], declared)


def _parameters(file, function, declared):
    # A group comes as one DataFrame, whatever its columns are.
    wanted = ["frame"] if declared["kind"] == "grouped" else [name for name, _ in declared["inputs"]]
    args = function.args
    named = [arg.arg for arg in (*getattr(args, "posonlyargs", []), *args.args)]
    least, most = len(named) - len(args.defaults), float("inf") if args.vararg else len(named)
    required = [arg.arg for arg, default in zip(args.kwonlyargs, args.kw_defaults) if default is None]
    if least <= len(wanted) <= most and not required:
        return []
    message = f"`{function.name}({', '.join(named + required)})` does not take the {len(wanted)} inputs of module.toml"
    remedy = f"give it the parameters {', '.join(wanted)}, or change `inputs`"
    return [_problem(file, function.lineno, function.col_offset + 1, message, remedy)]


def _loaded(declared, directory):
    from redpoll.worker.load import LoadError, load

    try:
        load(declared)
    except LoadError as error:
        return [_problem(directory / "module.toml", 1, 1, str(error), "")]
    return []


def _problem(file, line, column, message, remedy):
    return {"file": str(file), "line": line, "column": column, "message": message, "remedy": remedy}


def main():
    # What modules print at import must not end up in the answer.
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    declared = json.load(sys.stdin)
    if declared.get("imports", True):
        from redpoll.worker import load

        load._stand_in_for_spark()
    json.dump(check(declared), answer)
    answer.close()


if __name__ == "__main__":
    main()
