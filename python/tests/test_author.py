"""What is said of a module's files before it runs."""

import ast
import sys

import pytest
from conftest import declaration

from redpoll.author import check, names


def undefined(code):
    return [node.id for node, _ in names.undefined(ast.parse(code))]


@pytest.mark.parametrize(
    "code",
    [
        "def f(a, *b, c=1, **d):\n    return a, b, c, d, f, len(b), __file__",
        "class A:\n    x = 1\n    y = x\n    def f(self):\n        return super().f(), __class__",
        "def f():\n    global g\n    g = 1\ndef h():\n    return g",
        "def f():\n    x = 1\n    def g():\n        nonlocal x\n        x = 2\n    return x, g",
        "def f():\n    return [x for x in (1,) if (z := x)], z",
        "try:\n    import a\nexcept ImportError as error:\n    a = error",
        "try:\n    unicode\nexcept NameError:\n    unicode = str",
        "from os import *\nprint(anything)",
        "from __future__ import annotations\ndef f(x: Unknown) -> Unknown: ...",
        "with open('x') as (a, b):\n    print(a, b)\nfor i, (j, k) in []:\n    del i",
        "f = lambda x, y=1: x + y\ndef g():\n    return later()\ndef later(): ...",
        "async def f(x):\n    async with x as y:\n        return {a: b async for a, b in y}",
    ],
)
def test_what_python_defines_is_known(code):
    assert undefined(code) == []


@pytest.mark.skipif(sys.version_info < (3, 10), reason="match came with Python 3.10")
def test_patterns_define_names():
    assert undefined("match []:\n    case [a, *b]: print(a, b)\n    case {'k': c, **d}: print(c, d)") == []


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("def f(x):\n    return np.log(x)", ["np"]),
        ("class A:\n    x = 1\n    def f(self):\n        return x", ["x"]),
        ("def f():\n    y = 1\ndef g():\n    return y", ["y"]),
        ("def f(x: Unknown): ...", ["Unknown"]),
        ("print([i for i in range(3)], i)", ["i"]),
        ("@decorated\ndef f(x=default): ...", ["decorated", "default"]),
    ],
)
def test_what_nothing_defines_is_found(code, expected):
    assert undefined(code) == expected


def problems(directory, code, **changes):
    directory.joinpath("written.py").write_text(code)
    declared = {**declaration(directory, [("x", "double")], "double"), **changes}
    return [(p["line"], p["message"], p["remedy"]) for p in check.check(declared)]


def test_a_package_that_is_used_but_not_imported_is_named_with_its_import(tmp_path):
    assert problems(tmp_path, "def it(x):\n    return np.log(x)\n") == [
        (2, "`np` is used but not imported", "add `import numpy as np`")
    ]
    assert problems(tmp_path, "def it(x):\n    return math.log(x) + math.exp(x)\n") == [
        (2, "`math` is used but not imported", "add `import math`")
    ]


def test_a_grouped_function_takes_one_frame_whatever_its_inputs(tmp_path):
    inputs = [("night", "bigint"), ("jd", "double")]
    changes = {"inputs": inputs, "returns": "int", "kind": "grouped", "keys": ["night"]}
    assert problems(tmp_path, "def it(frame):\n    return len(frame)\n", **changes) == []
    [(line, message, _)] = problems(tmp_path, "def it(night, jd):\n    return 1\n", **changes)
    assert line == 1 and message.startswith("`it(night, jd)` does not take")


def test_names_that_a_package_does_not_have_are_found(tmp_path):
    code = "import numpy as np\nfrom math import sqr\n\ndef it(x):\n    return np.medain(x) + np.linalg.nrm(x)\n"
    assert problems(tmp_path, code) == [
        (2, "`math` has no `sqr`", "did you mean `sqrt`?"),
        (5, "`numpy` has no `medain`", "did you mean `median`?"),
        (5, "`numpy.linalg` has no `nrm`", "did you mean `norm`?"),
    ]


def test_imports_that_may_be_missing_are_not_told(tmp_path):
    code = "try:\n    import no_such\nexcept ImportError:\n    no_such = None\n\ndef it(x):\n    return x\n"
    assert problems(tmp_path, code) == []


def test_a_missing_package_is_told_with_the_requirements(tmp_path):
    (line, message, remedy), *_ = problems(tmp_path, "import no_such.part\n\ndef it(x):\n    return x\n")
    assert (line, message) == (1, "there is no package `no_such` in this environment")
    assert "add it to the requirements" in remedy
    assert problems(tmp_path, "import no_such\n\ndef it(x):\n    return x\n", imports=False) == []


def test_files_beside_are_checked_and_tests_are_not(tmp_path):
    tmp_path.joinpath("beside.py").write_text("value = missing\n")
    tmp_path.joinpath("test_it.py").write_text("missing\n")
    tmp_path.joinpath("tests").mkdir()
    tmp_path.joinpath("tests", "test_more.py").write_text("missing\n")
    found = problems(tmp_path, "from beside import value\n\ndef it(x):\n    return value\n")
    assert found == [(1, "`missing` is not defined", "import or define it")]


def test_a_syntax_error_has_its_place(tmp_path):
    (line, message, remedy), *_ = problems(tmp_path, "def it(x)\n    return x\n")
    assert line == 1 and "expected" in message and "Python" in remedy


def test_what_only_loading_shows_is_told_last(tmp_path):
    decorator = "from redpoll import science_module\n\n@science_module(inputs={'x': 'int'}, returns='double')\n"
    code = f"{decorator}def it(x):\n    return x\n"
    ((_, message, _),) = problems(tmp_path, code)
    assert "inputs x double are not what the decorator declares" in message
