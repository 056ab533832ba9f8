"""Imports one module of a package, tells what its functions take and give, and runs them on sample alerts.

This runs in a process of its own: a package may crash the interpreter, end it, or never come back. Each answer is
written as soon as it is known, so that what was found before a crash is not lost. The network is shut: a function that
asks for an address is told by it.
"""

import importlib
import importlib.util
import inspect
import json
import re
import socket
import time

from redpoll.worker.evaluate import evaluate
from redpoll.worker.load import LoadError, _stand_in_for_spark, load, row_kind
from redpoll.worker.results import reason

# What a function that imports only when it is called says in its note.
_MISSING = re.compile(r"ModuleNotFoundError: No module named '(\w+)'")


class Shut(OSError):
    """The network is not there while functions are looked at."""


def answer(request):
    """Answers a request of ``scan``: one JSON line for each function, into the file that it names."""
    asked = _shut_network()
    sample = _sample(request.get("sample"))
    _stand_in_for_spark()
    with open(request["answers"], "a", encoding="utf-8") as answers:
        try:
            module = importlib.import_module(request["module"])
        except (Exception, SystemExit) as error:
            text = _network(asked) or _broken(error)
            answers.writelines(_line({"function": name, "reason": text}) for name in request["functions"])
            return
        answers.write(_line({"imported": request["module"]}))
        answers.flush()
        for name in request["functions"]:
            asked.clear()
            entry = _look(module, name, request["plain"], sample, asked)
            answers.write(_line({"function": name, **entry}))
            answers.flush()


def _line(entry):
    return json.dumps(entry) + "\n"


def _sample(path):
    from redpoll.package.sample import Sample

    return Sample.read(path) if path else None


def _shut_network():
    asked = []

    def refuse(host, *args, **kwargs):
        host = host if isinstance(host, str) else str(host[0] if isinstance(host, tuple) else host)
        asked.append(host)
        raise Shut(f"the network is shut while functions are looked at: {host}")

    socket.getaddrinfo = socket.gethostbyname = socket.create_connection = refuse
    return asked


def _network(asked):
    return f"asks a network service: {asked[0]}" if asked else None


def _broken(error):
    """Why an import failed."""
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return f"its import fails: {reason(error)}"
    root = error.name.split(".")[0]
    if root != error.name and importlib.util.find_spec(root) is not None:
        return f"missing `{error.name}`: another version of the package that has `{root}`"
    return f"missing package: `{root}`"


def _look(module, name, plain, sample, asked):
    found = getattr(module, name, None)
    if not callable(found):
        return {"reason": f"`{name}` is not there once the module is imported"}
    try:
        entry = described(found, plain=name in plain)
    except TypeError as error:
        return {"reason": str(error)}
    return {**entry, **_ran(module.__name__, name, entry, sample, asked)}


def described(found, plain=False):
    """What a function is called with and gives: kind, inputs, returns, about. Raises TypeError with the reason if it
    cannot be told."""
    function = getattr(found, "func", found)
    about = (inspect.getdoc(function) or "").strip().split("\n\n")[0].replace("\n", " ")
    own = getattr(found, "__redpoll__", None)
    if own is not None:
        inputs = [{"name": name, "type": kind, "key": name in own.keys} for name, kind in own.inputs]
        return {"kind": own.kind, "inputs": inputs, "returns": own.returns, "about": about}
    kind = row_kind(getattr(found, "evalType", None)) or "pandas"
    if kind == "grouped":
        raise TypeError('it gets a DataFrame of each group: name its columns and keys in a module.toml of kind = "grouped"')
    returns = "boolean" if plain else getattr(found, "returnType", None)
    if returns is None:
        raise TypeError("its return type is not declared")
    returns = returns if isinstance(returns, str) else returns.simpleString()
    return {"kind": kind, "inputs": _inputs(function), "returns": returns, "about": about}


def _inputs(function):
    inputs = []
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind == parameter.VAR_POSITIONAL:
            raise TypeError(f"it takes any number of columns (*{name})")
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            optional = {} if parameter.default is parameter.empty else {"optional": True}
            inputs.append({"name": name, **optional})
    if not inputs:
        raise TypeError("it takes no columns")
    return inputs


def _ran(module, name, entry, sample, asked):
    declared = {**entry, "name": name, "function": f"{module}:{name}", "dir": "."}
    declared["inputs"] = [(one["name"], one.get("type")) for one in entry["inputs"]]
    declared["keys"] = [one["name"] for one in entry["inputs"] if one.get("key")]
    try:
        loaded = load(declared)
    except LoadError as error:
        return {"reason": str(error)}
    if sample is None:
        return {"untried": "no sample alerts of its survey"}
    # Filters take measurements, other functions rather light curves; what fails on one may be meant for the other.
    tries = [False] if entry["returns"] == "boolean" else [True, False]
    told = [_tried(loaded, entry, sample, histories, asked) for histories in tries]
    return min(told, key=lambda one: ("reason" in one or "untried" in one, one.get("failed", 0)))


def _tried(loaded, entry, sample, histories, asked):
    from redpoll.package.sample import NotThere

    try:
        batch = sample.batch(entry["inputs"], histories)
    except NotThere as error:
        return {"untried": f"the sample alerts have {error}"}
    begun = time.perf_counter()
    _, failures = evaluate(loaded, batch)
    seconds = time.perf_counter() - begun
    if asked:
        return {"reason": _network(asked)}
    lacking = next((told for _, told in failures if told.startswith(("ImportError", "ModuleNotFoundError"))), None)
    if lacking:
        # Alerts that never come so far do not make it usable.
        missing = _MISSING.fullmatch(lacking)
        return {"reason": f"missing package: `{missing[1]}`" if missing else f"missing package: {lacking}"}
    if 2 * len(failures) > batch.num_rows:
        share = "every sample alert" if len(failures) == batch.num_rows else f"{len(failures)} of {batch.num_rows} sample alerts"
        return {"reason": f"it fails on {share}: {failures[0][1]}"}
    ran = {"rows": batch.num_rows, "failed": len(failures), "seconds": round(seconds, 4)}
    return {**ran, "failure": failures[0][1]} if failures else ran
