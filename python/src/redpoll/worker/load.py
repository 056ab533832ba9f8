"""Finds the function that a manifest names, and checks that it can be called as declared."""

import difflib
import importlib
import importlib.util
import inspect
import pkgutil
import sys
from dataclasses import dataclass
from pathlib import Path

from redpoll import sqltypes

# Where each module was loaded from last, by name.
_folders = {}

STANDIN = Path(__file__).resolve().parent.parent / "standin"
# How Spark marks a function that is called once per row, and one that is called once per group.
ROW_EVAL_TYPE, GROUPED_EVAL_TYPE = 100, 201


class LoadError(Exception):
    """A module that cannot be used; the text says which name, and the remedy."""


@dataclass(frozen=True)
class Module:
    name: str
    kind: str
    function: object
    inputs: list
    # None where an argument comes in its own type.
    input_types: list
    returns: object
    # Positions of the inputs that group rows.
    keys: list = ()


def load(declared):
    """The module that a manifest declares: name, function ``package.module:function``, kind, inputs, keys, returns, dir.

    Raises LoadError, with the nearest existing name where there is one.
    """
    _stand_in_for_spark()
    path, _, function_name = declared["function"].partition(":")
    _forget_older_version(declared["name"], declared["dir"])
    python_module = _import(declared["name"], path, Path(declared["dir"]))
    found = getattr(python_module, function_name, None)
    if not callable(found):
        known = [name for name, value in vars(python_module).items() if callable(value) and not name.startswith("_")]
        raise LoadError(f"`{path}` has no function `{function_name}`{_nearest(function_name, known)}")
    function = getattr(found, "func", found)
    _check(declared, found, function)
    return Module(
        name=declared["name"],
        kind=declared["kind"],
        function=function,
        inputs=[name for name, _ in declared["inputs"]],
        input_types=_types(declared["inputs"]),
        keys=[position for position, (name, _) in enumerate(declared["inputs"]) if name in declared.get("keys", ())],
        returns=sqltypes.to_arrow(declared["returns"]),
    )


def _types(inputs):
    return [None if kind in (None, sqltypes.ANY) else sqltypes.to_arrow(kind) for _, kind in inputs]


def _forget_older_version(name, directory):
    """Takes the files of the version before off the path and out of ``sys.modules``: the new one brings its own.

    Functions of the older version go on with what they have imported.
    """
    older = _folders.pop(name, None)
    _folders[name] = directory
    if older is None or any(folder == older for other, folder in _folders.items() if other != name):
        return
    while older in sys.path:
        sys.path.remove(older)
    for imported, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file and Path(file).is_relative_to(older):
            del sys.modules[imported]
    importlib.invalidate_caches()


def _stand_in_for_spark():
    """Puts the stand-in for pyspark on the path, unless the real one is there."""
    if importlib.util.find_spec("pyspark") is None:
        sys.path.insert(0, str(STANDIN))


def _import(name, path, directory):
    local = directory.joinpath(*path.split(".")).with_suffix(".py")
    if local.is_file() and "." not in path:
        return _import_file(name, path, local)
    if str(directory) not in sys.path:
        sys.path.append(str(directory))
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError as error:
        if path == error.name or path.startswith(f"{error.name}."):
            raise LoadError(
                f"there is no Python module `{error.name}`{_nearest(error.name, _siblings(error.name))}"
            ) from error
        raise LoadError(_broken(path, error)) from error
    except (Exception, SystemExit) as error:
        raise LoadError(_broken(path, error)) from error


def _import_file(name, path, file):
    # Two surveys may both have a `statistics.py`: each file gets a name of its own in sys.modules.
    spec = importlib.util.spec_from_file_location(f"redpoll_modules.{name}.{path}", file)
    python_module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = python_module
    if str(file.parent) not in sys.path:
        sys.path.append(str(file.parent))
    try:
        spec.loader.exec_module(python_module)
    except (Exception, SystemExit) as error:
        raise LoadError(_broken(path, error)) from error
    return python_module


def _broken(path, error):
    text = f"importing `{path}` failed with {type(error).__name__}: {error}"
    if isinstance(error, ModuleNotFoundError):
        root = error.name.split(".")[0]
        if root != error.name and importlib.util.find_spec(root) is not None:
            return f"{text}: it needs another version of the package that has `{root}`"
        text += f": add the package that has `{error.name}` to the module's requirements"
    return text


def _siblings(path):
    parent, _, _ = path.rpartition(".")
    try:
        search = importlib.import_module(parent).__path__ if parent else None
    except Exception:
        return []
    prefix = f"{parent}." if parent else ""
    return [f"{prefix}{found.name}" for found in pkgutil.iter_modules(search)]


def _nearest(wanted, known):
    near = difflib.get_close_matches(wanted, known, n=1)
    return f": did you mean `{near[0]}`?" if near else ""


def _check(declared, found, function):
    _check_kind(declared["kind"], getattr(found, "evalType", None))
    own = getattr(found, "__redpoll__", None)
    if own is not None:
        _check_declaration(declared, own)
    # A group comes as one DataFrame, whatever its columns are.
    arguments = ["frame"] if declared["kind"] == "grouped" else declared["inputs"]
    try:
        inspect.signature(function).bind(*arguments)
    except TypeError as error:
        names = ", ".join(inspect.signature(function).parameters)
        raise LoadError(
            f"{len(arguments)} inputs do not fit `{declared['function']}({names})`: {error}"
        ) from error
    except ValueError:
        pass  # A function written in C tells nothing of its parameters.


def row_kind(eval_type):
    """The kind of a function that is decorated for Spark; None if it is not."""
    kinds = {None: None, ROW_EVAL_TYPE: "row", GROUPED_EVAL_TYPE: "grouped"}
    return kinds.get(eval_type, "pandas")


def _check_kind(kind, eval_type):
    meant = row_kind(eval_type)
    if meant is None or meant == kind or (meant == "pandas" and kind == "arrow"):
        return
    raise LoadError(f'the manifest says kind = "{kind}", but the function is decorated for kind = "{meant}"')


def _check_declaration(declared, own):
    said = [
        (
            "inputs",
            _typed(declared["inputs"], own.inputs),
            _typed(own.inputs, own.inputs),
        ),
        ("returns", sqltypes.to_arrow(declared["returns"]), sqltypes.to_arrow(own.returns)),
        ("kind", declared["kind"], own.kind),
        ("keys", list(declared.get("keys", ())), list(own.keys)),
    ]
    for key, manifest, decorator in said:
        if manifest != decorator:
            raise LoadError(
                f"the manifest's {key} {_show(manifest)} are not what the decorator declares: {_show(decorator)}"
            )


def _typed(inputs, declared):
    """Names with types; one that the manifest leaves open is what the decorator declares."""
    types = dict(declared)
    left_open = (None, sqltypes.ANY)
    return [(name, sqltypes.to_arrow(types.get(name, "null") if kind in left_open else kind)) for name, kind in inputs]


def _show(value):
    if not isinstance(value, list):
        return str(value)
    return ", ".join(part if isinstance(part, str) else " ".join(map(str, part)) for part in value) or "none"
