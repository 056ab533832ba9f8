"""The decorator that declares a science module.

The function stays an ordinary function, callable in a notebook or a test. The declaration travels with it, so
that the worker can refuse a ``module.toml`` that says something else.
"""

import inspect
import typing
from dataclasses import dataclass

KINDS = ("pandas", "arrow", "row")
_HINTS = {bool: "boolean", int: "bigint", float: "double", str: "string", bytes: "binary"}


@dataclass(frozen=True)
class Declaration:
    """What a module takes and gives: (name, type) per input in order, the result's type, and the kind of call."""

    name: str
    inputs: tuple
    returns: str
    kind: str

    def to_toml(self):
        """The lines of a ``module.toml`` that follow from the declaration."""
        lines = [f'name = "{self.name}"', f'kind = "{self.kind}"', "inputs = ["]
        lines += [f'  {{ name = "{name}", type = "{kind}" }},' for name, kind in self.inputs]
        return "\n".join([*lines, "]", f'returns = "{self.returns}"']) + "\n"


def science_module(function=None, *, inputs=None, returns=None, kind="pandas", name=None):
    """Declares a science module.

    Parameters
    ----------
    inputs: dict of str to str, optional
        Type of each parameter, as in ``{"jd": "list<double>"}``. Without it the parameters' annotations are
        used: a type name (``"list<double>"``) or ``bool``, ``int``, ``float``, ``str``, ``list[float]``.
    returns: str, optional
        Type of one result; without it, the return annotation.
    kind: str
        ``pandas`` (a Series per input, a Series or DataFrame back), ``arrow`` (arrays in and out) or ``row``
        (called once per row with plain Python values).

    Raises
    ------
    TypeError
        If a parameter has no type, or the kind is unknown.
    """

    def declare(function):
        function.__redpoll__ = _declaration(function, inputs, returns, kind, name)
        return function

    return declare if function is None else declare(function)


def _declaration(function, inputs, returns, kind, name):
    if kind not in KINDS:
        raise TypeError(f"{function.__name__}: kind `{kind}` is not one of {', '.join(KINDS)}")
    signature = inspect.signature(function)
    inputs = inputs or {
        parameter: _hint(function, parameter, p.annotation) for parameter, p in signature.parameters.items()
    }
    if list(inputs) != list(signature.parameters):
        raise TypeError(
            f"{function.__name__}: inputs {list(inputs)} are not its parameters {list(signature.parameters)}"
        )
    returns = returns or _hint(function, "return", signature.return_annotation)
    return Declaration(name or function.__name__, tuple(inputs.items()), returns, kind)


def _hint(function, parameter, annotation):
    if isinstance(annotation, str):
        return annotation.strip("'\"")
    if annotation in _HINTS:
        return _HINTS[annotation]
    if typing.get_origin(annotation) is list:
        return f"list<{_hint(function, parameter, typing.get_args(annotation)[0])}>"
    raise TypeError(f'{function.__name__}: `{parameter}` has no type; say for example {parameter}: "list<double>"')
