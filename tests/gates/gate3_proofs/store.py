"""The embedded store: index tables, a list taken apart into rows, and scans of a range of keys."""

import math
import statistics

import fastavro

from gate import ROOT, archive, redpoll, run, sql
from values import read, sample_files

UPPER = """
CREATE EXTERNAL TABLE alerts STORED AS ALERTS LOCATION '${source}' OPTIONS ('format' 'ztf');
CREATE EXTERNAL TABLE ztf.upper STORED AS STORE LOCATION 'store:/ztf.upper' OPTIONS ('row_key' '{objectId}_{jd}');
CREATE EXTERNAL TABLE upper_copy STORED AS DELTA LOCATION 'upper';

-- Alerts whose latest earlier observation did not detect anything.
CREATE VIEW missed AS SELECT * FROM alerts WHERE prv_candidates[-1].magpsf IS NULL;
CREATE VIEW past AS SELECT objectId, unnest(prv_candidates) AS past FROM missed;

INSERT INTO ztf.upper
SELECT objectId, past.jd AS jd, past.fid AS fid, past.diffmaglim AS diffmaglim FROM past WHERE past.magpsf IS NULL;
INSERT INTO upper_copy
SELECT objectId, past.jd AS jd, past.fid AS fid, past.diffmaglim AS diffmaglim FROM past WHERE past.magpsf IS NULL;
"""


def upper_limits(alerts):
    """(objectId, jd, fid, diffmaglim) of each upper limit of the alerts' histories."""
    for alert in alerts:
        history = alert["prv_candidates"] or []
        if history and history[-1]["magpsf"] is None:
            for past in history:
                if past["magpsf"] is None:
                    yield alert["objectId"], past["jd"], past["fid"], past["diffmaglim"]


def unnest(gate, folder):
    """Upper limits of histories, one row each, in an archive table and in a table of the store."""
    source = folder / "night"
    made = redpoll(folder, "simulate", "--to", source, "--count", 60)
    assert made.code == 0, made.text
    run(folder, UPPER, source=source)
    expected = sorted(upper_limits(alert for path in source.glob("*.avro") for alert in read(path)))
    fields = ("objectId", "jd", "fid", "diffmaglim")
    rows = sql(folder, "SELECT objectId, jd, fid, CAST(diffmaglim AS DOUBLE) AS diffmaglim FROM upper_copy")
    got = sorted(tuple(row[name] for name in fields) for row in rows)
    gate.check(f"archive: {len(expected)} upper limits", expected and got == expected, f"got {len(got)}")
    stored = sql(folder, "SELECT objectId, jd, fid, CAST(diffmaglim AS DOUBLE) AS diffmaglim FROM ztf.upper")
    got = {tuple(row[name] for name in fields) for row in stored}
    # The store has one row for each key: two alerts of an object share part of their histories.
    gate.check(f"store: {len(set(expected))} rows", got == set(expected), f"got {len(got)}")


def scans(gate, folder):
    """WHERE on the beginning of a row key is a scan of a range of keys, with the rows of a full scan."""
    source = next(path for path in sample_files("ztf", published=True) if path.name == "ztf_multi_3.avro")
    run(folder, ROOT / "pipelines/ztf/night.sql", source=source, science="off")
    alerts = read(source)
    kept = next(a for a in alerts if a["candidate"]["nbad"] == 0 and a["candidate"]["rb"] >= 0.55 and a["candidate"]["fid"] < 3)
    name, jd = kept["objectId"], kept["candidate"]["jd"]
    query = f"SELECT objectId, jd, candid FROM ztf.objects WHERE objectId = '{name}'"
    plan = redpoll(folder, "sql", f"EXPLAIN {query}")
    gate.check(f"EXPLAIN shows range=… for objectId = '{name}'", f"range=[{name}_" in plan.out, plan.text)
    rows = sql(folder, query)
    gate.equal("its rows", [(row["objectId"], row["jd"], row["candid"]) for row in rows], [(name, jd, kept["candid"])])
    one = redpoll(folder, "sql", f"EXPLAIN {query} AND jd = {jd!r}")
    gate.check("with the whole key it is a look-up of one row", "range=" in one.out and f"{name}_{jd!r}" in one.out, one.text)


def plain_alert(alert):
    """None of the filters takes it."""
    alert["diaSource"] |= {"snr": 3.0, "psfFlux": 900.0}


def well_measured(alert):
    alert["diaSource"] |= {"snr": 30.0, **dict.fromkeys(FLAGS, False)}
    alert["diaObject"]["nDiaSources"] = 9


def bright_one(alert):
    """Of magnitude 18.9, far from the galaxy's plane, brighter than it was by more than its error."""
    band = alert["diaSource"]["band"]
    alert["diaSource"] |= {"psfFlux": 1e5, "ra": 192.9, "dec": 27.1}
    alert["diaObject"] |= {f"{band}_psfFluxMean": 2e4, f"{band}_psfFluxMeanErr": 500.0}


def sampled(alert):
    """With an id of its own that the sample takes, in all places."""
    number = (alert["diaSourceId"] % 10**12 + 10**12) * 113
    alert["diaSourceId"] = alert["diaSource"]["diaSourceId"] = number
    if alert["ssSource"]:
        alert["ssSource"]["diaSourceId"] = number


def lsst_night(folder, count):
    """Simulated alerts, some of them made such that every filter takes some and leaves some."""
    made = redpoll(folder, "simulate", "--survey", "lsst", "--to", folder / "made", "--count", count)
    assert made.code == 0, made.text
    (folder / "night").mkdir()
    alerts = []
    for i, path in enumerate(sorted((folder / "made").glob("*.avro"))):
        with open(path, "rb") as f:
            reader = fastavro.reader(f)
            schema, [alert] = reader.writer_schema, list(reader)
        change = (plain_alert, well_measured, bright_one, sampled)[i % 4]
        if alert["diaObject"] or change is sampled:
            change(alert)
        alerts.append(alert)
        with open(folder / "night" / path.name, "wb") as f:
            fastavro.writer(f, schema, [alert])
    return alerts


def lsst_store(gate, folder):
    """The night of Rubin without modules: its topics, and its tables of the store, as fastavro counts them."""
    lsst_night(folder, 160)
    run(folder, ROOT / "pipelines/lsst/night.sql", source=folder / "night", science="off")
    # As they are in the files: what was a double is a float there.
    alerts = [alert for path in (folder / "night").glob("*.avro") for alert in read(path)]
    for name, keep in FILTERS.items():
        ids = sorted(a["diaSourceId"] for a in alerts if keep(a))
        files = (folder / "topics" / f"fink_{name}_lsst").glob("*.avro")
        got = sorted(alert["diaSourceId"] for path in files for alert in read(path))
        gate.check(f"{name}: the ids of {len(ids)} alerts of {len(alerts)}", got == ids and 0 < len(ids) < len(alerts), f"got {len(got)}: {got[:5]}, wanted {ids[:5]}")
    static = {a["diaSourceId"] for a in alerts if not is_sso(a) and a["diaSource"]["diaObjectId"]}
    bodies = {a["diaSourceId"] for a in alerts if is_sso(a) and a["mpc_orbits"]}
    objects = {a["diaSource"]["diaObjectId"] for a in alerts if not is_sso(a)}
    for table, column, expected in (("diaSource_static", "diaSourceId", static), ("diaSource_sso", "diaSourceId", bodies), ("pixel1024", "diaObjectId", objects)):
        rows = sql(folder, f"SELECT DISTINCT {column} FROM lsst.{table}")
        got = {row[column] for row in rows}
        gate.check(f"{table}: {len(expected)} of {column}", got == expected and expected, f"got {len(got)}")


def lsst_science(gate, folder):
    """The night of Rubin with its modules: statistics of each history as plain Python computes them."""
    source = folder / "night"
    made = redpoll(folder, "simulate", "--survey", "lsst", "--to", source, "--count", 40)
    assert made.code == 0, made.text
    run(folder, ROOT / "pipelines/lsst/night.sql", source=source)
    rows = {row["diaSourceId"]: row for row in archive(folder, "lsst/science")}
    alerts = [alert for path in source.glob("*.avro") for alert in read(path)]
    wrong = []
    for alert in alerts:
        history = [*(alert["prvDiaSources"] or []), alert["diaSource"]]
        fluxes = [s["psfFlux"] for s in history if s["band"] == alert["diaSource"]["band"]
                  and s["psfFlux"] is not None and (s["psfFluxErr"] or 0) > 0]
        got = rows[alert["diaSourceId"]]
        first = min(s["midpointMjdTai"] for s in history)
        expected = (len(fluxes), statistics.median(fluxes) if fluxes else None, first, min(len(fluxes), 5))
        stats, rate = got["flux_statistics"], got["flux_rate"]
        if (stats["n"], stats["median_flux"], got["firstDiaSourceMjdTai"], rate["n"]) != expected:
            wrong.append((alert["diaSourceId"], expected, stats, rate))
        if got["redpoll_notes"]:
            wrong.append(got["redpoll_notes"])
    gate.check(f"{len(alerts)} rows of lsst.science", not wrong and len(rows) == len(alerts), wrong[:3])
    stored = sql(folder, "SELECT median_flux, flux_rate FROM lsst.diaSource_static WHERE median_flux IS NOT NULL")
    gate.check(f"diaSource_static has them too, in {len(stored)} rows", len(stored) > 10)


FLAGS = ("isNegative", "isDipole", "psfFlux_flag", "shape_flag", "pixelFlags", "pixelFlags_bad", "pixelFlags_cr",
         "pixelFlags_nodata", "pixelFlags_streak", "pixelFlags_interpolated", "pixelFlags_edge")


def is_sso(alert):
    return bool(alert["diaSource"]["ssObjectId"])


def unlikely_removed(alert):
    source, thing = alert["diaSource"], alert["diaObject"] or {}
    return (not is_sso(alert) and (source["snr"] or 0) > 10 and (thing.get("nDiaSources") or 0) > 2
            and not any(source.get(flag) for flag in FLAGS))


def bright(alert):
    source, thing = alert["diaSource"], alert["diaObject"]
    if is_sso(alert) or not thing or not source["psfFlux"] or source["psfFlux"] <= 0:
        return False
    mean, error = (thing.get(f"{source['band']}_psfFlux{kind}") for kind in ("Mean", "MeanErr"))
    if mean is None or error is None or 31.4 - 2.5 * math.log10(source["psfFlux"]) >= 20:
        return False
    ra, dec, ra0, dec0 = map(math.radians, (source["ra"], source["dec"], 192.859, 27.128))
    sine = math.sin(dec) * math.sin(dec0) + math.cos(dec) * math.cos(dec0) * math.cos(ra - ra0)
    return source["psfFlux"] - mean > error and abs(math.degrees(math.asin(sine))) > 20


FILTERS = {
    "uniform_sample": lambda alert: alert["diaSourceId"] % 113 == 0,
    "remove_unlikely_transients": unlikely_removed,
    "solar_system": is_sso,
    "bright_transients": bright,
}
PROOFS = [unnest, scans, lsst_store, lsst_science]
