"""Compares decoding and encoding with fastavro, field by field, on every .avro file below a folder.

    cargo build --workspace --examples
    uv run --with fastavro --with pyarrow --with cramjam tests/compare_fastavro.py PATH_OF_avro_dump FOLDER
"""

import datetime
import io
import json
import math
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import fastavro
import pyarrow as pa


def same(path, ours, theirs):
    """Raises AssertionError, naming the field, where the two values differ."""
    if isinstance(theirs, dict):
        if isinstance(ours, list):
            ours = dict(ours)
        assert set(ours) == set(theirs), f"{path}: fields {set(ours) ^ set(theirs)}"
        for name, value in theirs.items():
            same(f"{path}.{name}", ours[name], value)
    elif isinstance(theirs, list):
        assert len(ours) == len(theirs), f"{path}: {len(ours)} items against {len(theirs)}"
        for i, (a, b) in enumerate(zip(ours, theirs)):
            same(f"{path}[{i}]", a, b)
    elif isinstance(theirs, float) and isinstance(ours, float):
        assert ours == theirs or (math.isnan(ours) and math.isnan(theirs)), f"{path}: {ours} against {theirs}"
    elif isinstance(theirs, datetime.datetime):
        assert ours.timestamp() == theirs.timestamp(), f"{path}: {ours} against {theirs}"
    else:
        assert type(ours) is type(theirs) and ours == theirs, f"{path}: {ours!r} against {theirs!r}"


def fink_messages(path):
    """The alerts of a dump, read as fink-client does: the key is the schema, the value is schemaless."""
    data = path.read_bytes()
    position = 0
    while position < len(data):
        parts = []
        for _ in range(2):
            (length,) = struct.unpack_from("<I", data, position)
            parts.append(data[position + 4 : position + 4 + length])
            position += 4 + length
        schema = fastavro.parse_schema(json.loads(parts[0]))
        yield fastavro.schemaless_reader(io.BytesIO(parts[1]), schema)


def compare(dump, file, folder):
    out = Path(folder) / file.stem
    subprocess.run([dump, file, out], check=True)
    with open(file, "rb") as f:
        expected = list(fastavro.reader(f))
    with pa.ipc.open_file(f"{out}.arrow") as reader:
        decoded = reader.read_all().to_pylist()
    with open(f"{out}.avro", "rb") as f:
        encoded = list(fastavro.reader(f))
    sent = list(fink_messages(Path(f"{out}.fink")))
    for name, rows in [("decoded", decoded), ("encoded", encoded), ("fink", sent)]:
        same(f"{file.name}: {name}", rows, expected)
    print(f"{file}: {len(expected)} alerts are equal, decoded, encoded, and as fink-client reads them")


def main():
    dump, root = sys.argv[1:]
    files = sorted(Path(root).rglob("*.avro"))
    if not files:
        sys.exit(f"there are no .avro files below {root}")
    with tempfile.TemporaryDirectory() as folder:
        for file in files:
            compare(dump, file, folder)


if __name__ == "__main__":
    main()
