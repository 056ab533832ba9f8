"""The decorator that declares a science module.

The function stays an ordinary function, callable in a notebook or a test. The declaration travels with it, so that
``redpoll module add`` writes the ``module.toml`` from it, and the worker refuses a ``module.toml`` that says something
else.
"""

import collections.abc
import dataclasses
import datetime
import inspect
import typing
from dataclasses import dataclass

KINDS = ("pandas", "arrow", "row", "grouped")
_HINTS = {
    bool: "boolean", int: "bigint", float: "double", str: "string", bytes: "binary",
    datetime.datetime: "timestamp", datetime.date: "date",
}  # fmt: skip


@dataclass(frozen=True)
class Declaration:
    """What a module takes and gives: (name, type) per input in order, the result's type, the kind of call, and the
    names of the inputs by which rows are grouped."""

    name: str
    inputs: tuple
    returns: str
    kind: str
    keys: tuple = ()

    def to_toml(self):
        """The lines of a ``module.toml`` that follow from the declaration."""
        lines = [f'name = "{self.name}"', f'kind = "{self.kind}"', "inputs = ["]
        for name, kind in self.inputs:
            key = ", key = true" if name in self.keys else ""
            lines.append(f'  {{ name = "{name}", type = "{kind}"{key} }},')
        return "\n".join([*lines, "]", f'returns = "{self.returns}"']) + "\n"


def science_module(function=None, *, inputs=None, returns=None, kind="pandas", name=None, keys=()):
    """Declares a science module.

    Parameters
    ----------
    inputs: dict, optional
        Type of each parameter, as in ``{"jd": "list<double>"}``. Without it the parameters' annotations are used. A
        type is a name (``"list<double>"``), a Python type (``float``, ``list[float]``, ``dict[str, float]``,
        ``datetime.date``, a dataclass or TypedDict for a struct), or an Arrow type (``pyarrow.list_(…)``).
    returns: optional
        Type of one result, as in ``inputs``; without it, the return annotation.
    kind: str
        ``pandas`` (a Series per input, a Series or DataFrame back), ``arrow`` (arrays in and out), ``row`` (called once
        per row with plain Python values) or ``grouped`` (called once per key with a DataFrame, which has a column for
        each of ``inputs``; gives one row for each row, or one for all).
    keys: sequence of str
        With ``kind="grouped"``: the inputs by which rows are grouped.

    Raises
    ------
    TypeError
        If a parameter has no type, the kind is unknown, or keys and kind do not fit.
    """

    def declare(function):
        function.__redpoll__ = _declaration(function, inputs, returns, kind, name, tuple(keys))
        return function

    return declare if function is None else declare(function)


def _declaration(function, inputs, returns, kind, name, keys):
    called = function.__name__
    if kind not in KINDS:
        raise TypeError(f"{called}: kind `{kind}` is not one of {', '.join(KINDS)}")
    signature = inspect.signature(function)
    if inputs is None:
        if kind == "grouped":
            raise TypeError(f"{called}: a grouped function gets one DataFrame; name its columns with inputs={{…}}")
        inputs = {parameter: p.annotation for parameter, p in signature.parameters.items()}
    elif kind != "grouped" and list(inputs) != list(signature.parameters):
        raise TypeError(f"{called}: inputs {list(inputs)} are not its parameters {list(signature.parameters)}")
    if (kind == "grouped") != bool(keys) or any(key not in inputs for key in keys):
        raise TypeError(f'{called}: kind="grouped" needs keys=[…], names of inputs; other kinds have none')
    typed = tuple((parameter, type_name(hint, called, parameter)) for parameter, hint in inputs.items())
    returns = type_name(signature.return_annotation if returns is None else returns, called, "return")
    return Declaration(name or called, typed, returns, kind, keys)


def type_name(hint, function="type", parameter="it"):
    """The type name of a hint: a name, a Python type or an Arrow type. Raises TypeError."""
    if isinstance(hint, str):
        return hint.strip("'\"")
    if hint in _HINTS:
        return _HINTS[hint]
    inner = [part for part in typing.get_args(hint) if part is not type(None)]
    origin = typing.get_origin(hint)
    if origin in (list, collections.abc.Sequence) and len(inner) == 1:
        return f"list<{type_name(inner[0], function, parameter)}>"
    if origin in (dict, collections.abc.Mapping) and len(inner) == 2:
        return f"map<{','.join(type_name(part, function, parameter) for part in inner)}>"
    if origin is not None and len(inner) == 1:
        # Optional[T]: everything may be null.
        return type_name(inner[0], function, parameter)
    fields = _fields(hint)
    if fields:
        text = ", ".join(f"{name}: {type_name(part, function, parameter)}" for name, part in fields.items())
        return f"struct<{text}>"
    if type(hint).__module__.split(".")[0] == "pyarrow":
        from redpoll import sqltypes

        return sqltypes.to_text(hint)
    raise TypeError(f'{function}: `{parameter}` has no type; say for example {parameter}: "list<double>"')


def _fields(hint):
    """Fields of a dataclass or TypedDict, with their hints."""
    if dataclasses.is_dataclass(hint) or (isinstance(hint, type) and issubclass(hint, dict) and hint.__annotations__):
        return typing.get_type_hints(hint)
    return {}
