"""Every value of every sample file is in the archive, as fastavro reads the file."""

import json
import shutil
import tarfile

import deltalake
import fastavro
import polars

import lib
from gate import ALL_SAMPLES, ROOT, SAMPLES, archive, difference, match, redpoll, run

# Where an alert came from, and what its INSERT added.
ADDED = ("_topic", "_partition", "_offset", "_epoch", "redpoll_notes", "redpoll_versions", "night")

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
    if not ALL_SAMPLES:
        gate.skip("every sample file of both surveys", f"no real alerts below {lib.SAMPLES}, set REDPOLL_SAMPLES; only those of tests/fixtures are compared")
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


def real_night(gate, folder, survey):
    """A night of real alerts, or of simulated ones where they are not: what holds it, and how many they are."""
    if not ALL_SAMPLES:
        gate.skip(f"a real night of {survey}", f"no real alerts below {lib.SAMPLES}; a simulated one instead")
        made = redpoll(folder, "simulate", "--survey", survey, "--count", 200, "--mixed", "--to", folder / "night")
        assert made.code == 0, made.text
        return folder / "night", 200
    if survey == "ztf":
        tarball = SAMPLES / "ztf" / "ztf_public_20200101.tar.gz"
        with tarfile.open(tarball) as tar:
            return tarball, sum(member.isfile() for member in tar)
    # Rubin's are in Parquet: put under their schema again, with those of the other versions beside them.
    made = redpoll(folder, "simulate", "--from", SAMPLES / "lsst/raw_v10_0_25.parquet", "--keep-ids", "--count", 25, "--to", folder / "night")
    assert made.code == 0, made.text
    for path in sample_files("lsst", published=True):
        shutil.copy(path, folder / "night")
    return folder / "night", sum(len(read(path)) for path in (folder / "night").glob("*.avro"))


def leaves(value):
    """How many values there are in it."""
    if isinstance(value, dict):
        return sum(map(leaves, value.values()))
    return sum(map(leaves, value)) if isinstance(value, list | tuple) else 1


def readers(gate, folder):
    """PyPI's deltalake and polars read the archive of a night of each survey with equal values: all rows, all columns."""
    place = lambda row: (row["_topic"], row["_partition"], row["_offset"], key(row))
    for survey in ("ztf", "lsst"):
        here = folder / survey
        here.mkdir()
        source, count = real_night(gate, here, survey)
        ran = json.loads(run(here, ROOT / f"pipelines/{survey}/night.sql", "--format", "json", source=source, science="off").out)
        gate.equal(f"a night of {survey}: alerts", ran["decoded"], count)
        for table in ("raw", "science"):
            path = str(here / "warehouse" / survey / table)
            arrow = sorted(deltalake.DeltaTable(path).to_pyarrow_table().to_pylist(), key=place)
            frame = sorted(polars.read_delta(path).to_dicts(), key=place)
            gate.equal(f"{survey}.{table}: rows of both, and of the ledger", (len(arrow), len(frame)), (ran["sinks"][f"{survey}.{table}"],) * 2)
            found = difference(table, frame, arrow)
            gate.check(f"  {sum(map(leaves, arrow))} values in {len(arrow[0])} columns are equal in both", found is None, found)


PROOFS = [values, fields_of_any_writer, readers]
