"""What the checks of positions and light curves share: a Python with the packages that they compare with, and alerts to order."""
import os
import pathlib
import subprocess
import sys

import lib

PACKAGES = ["astropy==8.0.2", "healpy==1.20.1", "cdshealpix==0.9.0", "light-curve==0.13.3", "numpy==2.4.6", "scipy==1.17.1",
            "pyarrow==26.0.1", "fastavro==1.13.1"]
VENV = lib.CACHE / "astro-venv"


def in_astro_venv():
    """Goes on in a Python that has astropy; it is made by uv when it is first needed."""
    python = VENV / "bin" / "python"
    ready = VENV / "ready"
    if not ready.exists() or ready.read_text() != "\n".join(PACKAGES):
        uv = lib.PYTHON.parent / "uv"
        VENV.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, VENV], check=True)
        subprocess.run([uv, "pip", "install", "--quiet", "--python", python, *PACKAGES], check=True)
        ready.write_text("\n".join(PACKAGES))
    if pathlib.Path(sys.prefix) != VENV:
        os.execv(python, [str(python), *sys.argv])


def write_alerts(folder, columns, types, rows_of_a_file=20_000):
    """Avro files of flat alerts: `columns` by name as sequences, `types` their Avro types, all nullable."""
    import fastavro

    fields = [{"name": name, "type": ["null", types[name]]} for name in columns]
    schema = fastavro.parse_schema({"type": "record", "name": "alert", "fields": fields})
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True)
    rows = list(zip(*columns.values()))
    for start in range(0, len(rows), rows_of_a_file):
        with open(folder / f"{start:08}.avro", "wb") as file:
            records = (dict(zip(columns, row)) for row in rows[start:start + rows_of_a_file])
            fastavro.writer(file, schema, records)


def read_table(folder):
    """The rows of a Delta table that one job wrote once, as a pyarrow table."""
    import pyarrow
    import pyarrow.parquet

    files = sorted(path for path in pathlib.Path(folder).rglob("*.parquet") if "_delta_log" not in path.parts)
    return pyarrow.concat_tables([pyarrow.parquet.read_table(file) for file in files])
