"""Type names of manifests and decorators, as Arrow types.

``int``, ``list<float>``, ``map<string,double>``, ``struct<rate: double, error: double>``, ``decimal(10,2)`` and so on:
the names Spark and SQL users know. ``split`` gives the shape without needing pyarrow, ``to_arrow`` the Arrow type,
``to_text`` the name of an Arrow type.
"""

SCALARS = {
    "boolean": "bool_", "bool": "bool_",
    "tinyint": "int8", "byte": "int8",
    "smallint": "int16", "short": "int16",
    "int": "int32", "integer": "int32",
    "bigint": "int64", "long": "int64",
    "utinyint": "uint8", "usmallint": "uint16", "uint": "uint32", "ubigint": "uint64",
    "float": "float32", "real": "float32",
    "double": "float64",
    "string": "string", "varchar": "string", "text": "string",
    "binary": "binary",
    "date": "date32",
    "timestamp": "timestamp",
    "null": "null", "void": "null",
}  # fmt: skip
MAX_DIGITS = 38
# The type of an input that takes every argument as it comes; no Arrow type says that.
ANY = "any"


class TypeNameError(ValueError):
    """A type name that cannot be read."""


def split(text):
    """The outer name and its parameters: ``map<int,list<x>>`` gives ``("map", ["int", "list<x>"])``, ``decimal(10,2)``
    gives ``("decimal", ["10", "2"])``."""
    text = text.strip()
    head = text.split("<", 1)[0]
    if "(" in head:
        name, inner = text.split("(", 1)
        if not inner.endswith(")"):
            raise TypeNameError(f"type `{text}` has an unclosed `(`")
        return name.strip().lower(), [part.strip() for part in inner[:-1].split(",")]
    if "<" not in text:
        return text.lower(), []
    if not text.endswith(">"):
        raise TypeNameError(f"type `{text}` has an unclosed `<`")
    name, inner = text[:-1].split("<", 1)
    return name.strip().lower(), _parameters(inner, text)


def _parameters(inner, text):
    parts, depth, start = [], 0, 0
    for i, char in enumerate(inner):
        depth += (char in "<(") - (char in ">)")
        if depth < 0:
            raise TypeNameError(f"type `{text}` has a `>` too many")
        if char == "," and depth == 0:
            parts.append(inner[start:i])
            start = i + 1
    if depth:
        raise TypeNameError(f"type `{text}` has an unclosed `<`")
    return [part.strip() for part in (*parts, inner[start:])]


def is_fields(text):
    """Whether it is a list of fields, as in ``rate double, n int``: Spark's short form of a struct."""
    head = text.split("<", 1)[0].split("(", 1)[0].strip()
    return len(_parameters(text, text)) > 1 or " " in head or ":" in head


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
    if name in ("decimal", "numeric"):
        return pa.decimal128(*_digits(parameters, text))
    if name in SCALARS and not parameters:
        return pa.timestamp("us") if name == "timestamp" else getattr(pa, SCALARS[name])()
    raise TypeNameError(
        f"unknown type `{text}`: use list<T>, map<K,V>, struct<name: T>, decimal(P,S), or one of {', '.join(SCALARS)}"
    )


def _digits(parameters, text):
    """Digits in all and after the point; without them Spark's 10 and 0."""
    if not all(part.isdigit() for part in parameters) or len(parameters) > 2:
        raise TypeNameError(f"type `{text}` needs two numbers of digits, as in `decimal(10,2)`")
    digits, after = (*map(int, parameters), *(10, 0)[len(parameters) :])
    if not 1 <= digits <= MAX_DIGITS or after > digits:
        raise TypeNameError(f"type `{text}` has 1 to {MAX_DIGITS} digits, of which no more come after the point")
    return digits, after


def to_text(kind):
    """The name of an Arrow type, such that ``to_arrow`` of it holds the same values. Raises TypeNameError."""
    from pyarrow import types

    if types.is_map(kind):
        return f"map<{to_text(kind.key_type)},{to_text(kind.item_type)}>"
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return f"list<{to_text(kind.value_type)}>"
    if types.is_struct(kind):
        fields = (kind.field(i) for i in range(kind.num_fields))
        return f"struct<{', '.join(f'{field.name}: {to_text(field.type)}' for field in fields)}>"
    if types.is_decimal(kind):
        return f"decimal({kind.precision},{kind.scale})"
    if types.is_dictionary(kind):
        return to_text(kind.value_type)
    for name, likes in _LIKE.items():
        if str(kind).split("[")[0] in likes:
            return name
    raise TypeNameError(f"no type name stands for Arrow's {kind}")


# Names of Arrow types by the type names that hold their values.
_LIKE = {
    "boolean": ("bool",),
    "tinyint": ("int8",), "smallint": ("int16",), "int": ("int32",), "bigint": ("int64",),
    "utinyint": ("uint8",), "usmallint": ("uint16",), "uint": ("uint32",), "ubigint": ("uint64",),
    "float": ("halffloat", "float"), "double": ("double",),
    "string": ("string", "large_string", "string_view"),
    "binary": ("binary", "large_binary", "binary_view", "fixed_size_binary"),
    "date": ("date32", "date64"),
    "timestamp": ("timestamp",),
    "null": ("null",),
}  # fmt: skip
