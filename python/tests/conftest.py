"""What the tests share: module declarations, and a warm parent to talk to."""

import pyarrow as pa
import pytest
from processes import Parent

from redpoll.worker.load import load


@pytest.fixture
def declare(tmp_path):
    """Writes a module's code to a file and loads it as a manifest would declare it."""

    def declare(code, inputs, returns, kind="pandas", function="it", keys=()):
        tmp_path.joinpath("written.py").write_text(code)
        return load({**declaration(tmp_path, inputs, returns, kind, function), "keys": list(keys)})

    return declare


def declaration(directory, inputs, returns, kind="pandas", function="it", name="written"):
    path = function if ":" in function else f"written:{function}"
    return {
        "name": name,
        "function": path,
        "kind": kind,
        "inputs": inputs,
        "returns": returns,
        "dir": str(directory),
    }


def batch(module, *columns):
    arrays = [pa.array(values, type=kind) for values, kind in zip(columns, module.input_types)]
    return pa.RecordBatch.from_arrays(arrays, names=module.inputs)


@pytest.fixture
def parent(tmp_path):
    process = Parent(tmp_path)
    yield process
    process.close()
