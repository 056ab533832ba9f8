"""The Python environment of the Spark side, made once with the exact versions of spark-requirements.txt."""
import os
import pathlib
import shutil
import sys

import measure

HERE = pathlib.Path(__file__).resolve().parent
FOLDER = pathlib.Path(os.environ.get("REDPOLL_BENCH_CACHE") or pathlib.Path.home() / ".cache/redpoll") / "bench-venv"


def python():
    """Its interpreter, or None where there is no Java."""
    if not shutil.which("java"):
        return None
    interpreter, ready = FOLDER / "bin" / "python", FOLDER / "ready"
    requirements = HERE / "spark-requirements.txt"
    wanted = requirements.read_text()
    if not ready.exists() or ready.read_text() != wanted:
        uv = shutil.which("uv") or str(pathlib.Path(sys.executable).parent / "uv")
        measure.run([uv, "venv", "--quiet", "--clear", "--python", "3.11", FOLDER])
        measure.run([uv, "pip", "install", "--quiet", "--python", interpreter, "--no-deps", "-r", requirements])
        ready.write_text(wanted)
    return interpreter
