"""Type names of manifests and decorators, as Arrow types.

``int``, ``list<float>``, ``map<string,double>``, ``struct<rate: double, error: double>`` and so on: the names
Spark and SQL users know. ``split`` gives the shape without needing pyarrow, ``to_arrow`` the Arrow type.
"""

SCALARS = {
    "boolean": "bool_", "bool": "bool_",
    "tinyint": "int8", "byte": "int8",
    "smallint": "int16", "short": "int16",
    "int": "int32", "integer": "int32",
    "bigint": "int64", "long": "int64",
    "float": "float32", "real": "float32",
    "double": "float64",
    "string": "string", "varchar": "string", "text": "string",
    "binary": "binary",
    "date": "date32",
    "timestamp": "timestamp",
}  # fmt: skip


class TypeNameError(ValueError):
    """A type name that cannot be read."""


def split(text):
    """The outer name and its parameters: ``map<int,list<x>>`` gives ``("map", ["int", "list<x>"])``."""
    text = text.strip()
    if "<" not in text:
        return text.lower(), []
    if not text.endswith(">"):
        raise TypeNameError(f"type `{text}` has an unclosed `<`")
    name, inner = text[:-1].split("<", 1)
    return name.strip().lower(), _parameters(inner, text)


def _parameters(inner, text):
    parts, depth, start = [], 0, 0
    for i, char in enumerate(inner):
        depth += (char == "<") - (char == ">")
        if depth < 0:
            raise TypeNameError(f"type `{text}` has a `>` too many")
        if char == "," and depth == 0:
            parts.append(inner[start:i])
            start = i + 1
    if depth:
        raise TypeNameError(f"type `{text}` has an unclosed `<`")
    return [part.strip() for part in (*parts, inner[start:])]


def struct_field(text):
    """Name and type of one field: ``rate: double`` or ``rate double``."""
    separator = ":" if ":" in text.split("<", 1)[0] else None
    parts = text.split(separator, 1)
    if len(parts) != 2:
        raise TypeNameError(f"field `{text}` needs a name and a type, as in `rate: double`")
    return parts[0].strip(), parts[1].strip()


def to_arrow(text):
    """The Arrow type that a type name stands for. Raises TypeNameError."""
    import pyarrow as pa

    name, parameters = split(text)
    if name in ("list", "array") and len(parameters) == 1:
        return pa.list_(pa.field("item", to_arrow(parameters[0])))
    if name == "map" and len(parameters) == 2:
        return pa.map_(to_arrow(parameters[0]), to_arrow(parameters[1]))
    if name == "struct" and parameters:
        fields = (struct_field(parameter) for parameter in parameters)
        return pa.struct([pa.field(field, to_arrow(kind)) for field, kind in fields])
    if name in SCALARS and not parameters:
        return pa.timestamp("us") if name == "timestamp" else getattr(pa, SCALARS[name])()
    raise TypeNameError(
        f"unknown type `{text}`: use list<T>, map<K,V>, struct<name: T>, or one of {', '.join(SCALARS)}"
    )
