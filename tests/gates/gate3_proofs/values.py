"""Every value of every sample file is in the archive, as fastavro reads the file."""

import shutil

import deltalake
import fastavro
import polars

from gate import ROOT, SAMPLES, archive, difference, match, redpoll, run

# Where an alert came from, and what its INSERT added.
ADDED = ("_topic", "_partition", "_offset", "_epoch", "redpoll_notes", "night")

COPY = """
CREATE EXTERNAL TABLE alerts STORED AS ALERTS LOCATION '${source}' OPTIONS ('format' 'ocf');
CREATE EXTERNAL TABLE copy STORED AS DELTA LOCATION 'copy';
INSERT INTO copy SELECT * FROM alerts;
"""


def key(alert):
    """An alert's id in any schema of both surveys."""
    return alert.get("candid") or alert.get("diaSourceId") or alert.get("alertId") or alert["diaSource"]["diaSourceId"]


def read(path):
    with open(path, "rb") as f:
        return list(fastavro.reader(f))


def plain(rows):
    return [{name: value for name, value in row.items() if name not in ADDED} for row in rows]


def sample_files(survey, published):
    """The sample files as a survey publishes them, or as Fink does."""
    files = sorted((SAMPLES / survey).glob("*.avro"))
    return [path for path in files if path.name.startswith("fink_out") != published]


def survey_night(gate, folder, survey):
    source = folder / survey
    source.mkdir()
    files = sample_files(survey, published=True)
    for path in files:
        shutil.copy(path, source)
    made = redpoll(folder, "simulate", "--survey", survey, "--count", 20, "--to", source)
    assert made.code == 0, made.text
    files = sorted(source.glob("*.avro"))
    run(folder, ROOT / f"pipelines/{survey}/night.sql", source=source, science="off")
    by_file = {}
    for row in archive(folder, f"{survey}/raw"):
        by_file.setdefault(row["_topic"], []).append(row)
    gate.equal(f"{survey}.raw: files", len(by_file), len(files))
    simulated = []
    for path in files:
        expected = read(path)
        found = match(expected, plain(by_file.get(path.name, [])), key)
        if path.name[0].isdigit():
            simulated.append(found)
        else:
            gate.check(f"{survey}.raw: {path.name}, {len(expected)} alerts, every field", found is None, found)
    gate.equal(f"{survey}.raw: {len(simulated)} simulated alerts, differences", list(filter(None, simulated)), [])
    expected[0]["cutoutScience"] = expected[0]["prvDiaSources" if survey == "lsst" else "prv_candidates"] = None
    found = match(expected, plain(by_file[path.name]), key)
    gate.check(f"a value that is not the same would be found: {found}", found is not None)


def values(gate, folder):
    """Packets of both surveys, samples and simulated, through their nights: read back with PyPI's deltalake."""
    for survey in ("ztf", "lsst"):
        survey_night(gate, folder, survey)


def fields_of_any_writer(gate, folder):
    """Files whose schema nobody declared: columns and types are taken from the writer."""
    for survey in ("ztf", "lsst"):
        for path in sample_files(survey, published=False):
            here = folder / path.stem
            here.mkdir()
            run(here, COPY, source=path)
            expected = read(path)
            found = match(expected, plain(archive(here, "copy")), key)
            gate.check(f"{path.name}, {len(expected)} alerts, every field", found is None, found)


def readers(gate, folder):
    """PyPI's deltalake and polars read one archive with equal values."""
    source = SAMPLES / "ztf"
    run(folder, ROOT / "pipelines/ztf/night.sql", source=source / "ztf_multi_3.avro", science="off")
    for table in ("ztf/raw", "ztf/science"):
        path = str(folder / "warehouse" / table)
        place = lambda row: (row["_topic"], row["_partition"], row["_offset"], row["candid"])
        arrow = sorted(deltalake.DeltaTable(path).to_pyarrow_table().to_pylist(), key=place)
        frame = sorted(polars.read_delta(path).to_dicts(), key=place)
        found = difference(table, frame, arrow)
        gate.check(f"{table}: {len(arrow)} rows are equal in both", found is None and arrow, found)


PROOFS = [values, fields_of_any_writer, readers]
