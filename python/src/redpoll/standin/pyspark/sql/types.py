"""Types of ``pyspark.sql.types``, as names with parts. ``simpleString`` gives the type in manifest spelling."""

from redpoll.sqltypes import is_fields, split, struct_field


class DataType:
    """A type; two are equal when their text is."""

    name = "void"

    def simpleString(self):
        return self.name

    @classmethod
    def typeName(cls):
        return cls.name

    def __eq__(self, other):
        return isinstance(other, DataType) and self.simpleString() == other.simpleString()

    def __hash__(self):
        return hash(self.simpleString())

    def __repr__(self):
        return f"{type(self).__name__}()"


class AtomicType(DataType):
    pass


class NumericType(AtomicType):
    pass


def _atom(class_name, name, base=AtomicType):
    return type(class_name, (base,), {"name": name, "__doc__": f"``{name}``.", "__module__": __name__})


NullType = _atom("NullType", "void", DataType)
StringType = _atom("StringType", "string")
BinaryType = _atom("BinaryType", "binary")
BooleanType = _atom("BooleanType", "boolean")
DateType = _atom("DateType", "date")
TimestampType = _atom("TimestampType", "timestamp")
ByteType = _atom("ByteType", "tinyint", NumericType)
ShortType = _atom("ShortType", "smallint", NumericType)
IntegerType = _atom("IntegerType", "int", NumericType)
LongType = _atom("LongType", "bigint", NumericType)
FloatType = _atom("FloatType", "float", NumericType)
DoubleType = _atom("DoubleType", "double", NumericType)


class DecimalType(NumericType):
    name = "decimal"

    def __init__(self, precision=10, scale=0):
        self.precision, self.scale = precision, scale

    def simpleString(self):
        return f"decimal({self.precision},{self.scale})"


class ArrayType(DataType):
    name = "array"

    def __init__(self, elementType, containsNull=True):
        self.elementType, self.containsNull = elementType, containsNull

    def simpleString(self):
        return f"array<{self.elementType.simpleString()}>"


class MapType(DataType):
    name = "map"

    def __init__(self, keyType, valueType, valueContainsNull=True):
        self.keyType, self.valueType, self.valueContainsNull = keyType, valueType, valueContainsNull

    def simpleString(self):
        return f"map<{self.keyType.simpleString()},{self.valueType.simpleString()}>"


class StructField(DataType):
    def __init__(self, name, dataType, nullable=True, metadata=None):
        self.name, self.dataType, self.nullable, self.metadata = name, dataType, nullable, metadata or {}

    def simpleString(self):
        return f"{self.name}:{self.dataType.simpleString()}"


class StructType(DataType):
    name = "struct"

    def __init__(self, fields=None):
        self.fields = list(fields or [])

    def add(self, field, data_type=None, nullable=True, metadata=None):
        if not isinstance(field, StructField):
            field = StructField(
                field, parse(data_type) if isinstance(data_type, str) else data_type, nullable, metadata
            )
        self.fields.append(field)
        return self

    def fieldNames(self):
        return [field.name for field in self.fields]

    names = property(fieldNames)

    def simpleString(self):
        return f"struct<{','.join(field.simpleString() for field in self.fields)}>"

    def __iter__(self):
        return iter(self.fields)

    def __len__(self):
        return len(self.fields)

    def __getitem__(self, key):
        return self.fields[key] if isinstance(key, (int, slice)) else next(f for f in self.fields if f.name == key)


class Row(tuple):
    """A row with named fields, reached by position, by key or as an attribute."""

    def __new__(cls, *args, **kwargs):
        row = super().__new__(cls, kwargs.values() if kwargs else args)
        row.__fields__ = list(kwargs)
        return row

    def __getitem__(self, key):
        return super().__getitem__(self.__fields__.index(key) if isinstance(key, str) else key)

    def __getattr__(self, name):
        if name.startswith("__") or name not in self.__fields__:
            raise AttributeError(name)
        return self[name]

    def asDict(self, recursive=False):
        values = (v.asDict(True) if recursive and isinstance(v, Row) else v for v in self)
        return dict(zip(self.__fields__, values))


_ATOMS = {
    cls.name: cls
    for cls in (StringType, BinaryType, BooleanType, DateType, TimestampType, ByteType, ShortType, IntegerType, LongType,
                FloatType, DoubleType)
}  # fmt: skip
_ATOMS.update(integer=IntegerType, long=LongType, bool=BooleanType, short=ShortType, byte=ByteType, real=FloatType)


def parse(text):
    """The type that a type name such as ``map<string,array<double>>`` or ``rate double, n int`` stands for."""
    name, parameters = split(f"struct<{text}>" if is_fields(text) else text)
    if name in ("array", "list"):
        return ArrayType(parse(parameters[0]))
    if name == "map":
        return MapType(parse(parameters[0]), parse(parameters[1]))
    if name == "struct":
        return StructType([StructField(field, parse(kind)) for field, kind in map(struct_field, parameters)])
    if name == "decimal":
        return DecimalType(*map(int, parameters))
    if name in _ATOMS:
        return _ATOMS[name]()
    raise ValueError(f"unknown type `{text}`")


def __getattr__(name):
    # Rare types (intervals, variants) only need to be importable: nothing evaluates them here.
    if name.endswith("Type") and not name.startswith("_"):
        return type(name, (DataType,), {"name": name[:-4].lower(), "__init__": lambda self, *args, **kwargs: None})
    raise AttributeError(name)
