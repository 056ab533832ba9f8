#!/usr/bin/env python3
"""Makes samples/<survey>.parquet: simulated alerts, with what Fink's own broker adds to them.

    redpoll simulate --survey ztf --count 24 --to ALERTS && make_samples.py ztf ALERTS

`redpoll module add-package` runs a package's functions on these before it registers them. What a broker adds (classes,
scores, names of cross-matched objects) is made up here, so that filters have all their arguments; the values mean nothing.
"""
import random
import sys
from pathlib import Path

import fastavro
import pyarrow as pa
import pyarrow.parquet

HERE = Path(__file__).resolve().parent
PRIMITIVES = {"int": pa.int32(), "long": pa.int64(), "float": pa.float32(), "double": pa.float64(), "string": pa.string(),
              "boolean": pa.bool_(), "bytes": pa.binary(), "null": pa.null()}
FEATURES = """mean weighted_mean standard_deviation median amplitude beyond_1_std cusum inter_percentile_range_10 kurtosis linear_trend
    linear_trend_sigma linear_trend_noise linear_fit_slope linear_fit_slope_sigma linear_fit_reduced_chi2 magnitude_percentage_ratio_40_5
    magnitude_percentage_ratio_20_10 maximum_slope median_absolute_deviation median_buffer_range_percentage_10 percent_amplitude mean_variance
    anderson_darling_normal chi2 skew stetson_K""".split()
# Of each survey: the current measurement, its history, and the names whose values are also given as one list.
HISTORY = {
    "ztf": ("candidate", "prv_candidates", "jd fid magpsf sigmapsf diffmaglim magnr sigmagnr isdiffpos distnr ssnamenr field ra dec".split()),
    "lsst": ("diaSource", "prvDiaSources", "midpointMjdTai psfFlux psfFluxErr band".split()),
}


def arrow(kind, named):
    """The Arrow type of an Avro one; everything may be null."""
    if isinstance(kind, list):
        return arrow(next(part for part in kind if part != "null"), named)
    if isinstance(kind, str):
        return PRIMITIVES.get(kind) or named[kind]
    if kind["type"] == "record":
        named[kind["name"]] = found = pa.struct([(field["name"], arrow(field["type"], named)) for field in kind["fields"]])
        return found
    if kind["type"] == "array":
        return pa.list_(arrow(kind["items"], named))
    return arrow(kind["type"], named)


def added_ztf(n, pick):
    features = pa.map_(pa.int32(), pa.struct([(name, pa.float64()) for name in FEATURES]))
    one = lambda: {name: random.uniform(0, 2) for name in FEATURES}
    score = lambda: pa.array([random.random() for _ in range(n)])
    flag = lambda: pa.array([random.random() < 0.5 for _ in range(n)])
    scores = "mulens snn_snia_vs_nonia snn_sn_vs_all rf_snia_vs_nonia rf_kn_vs_nonkn rfscore slsn_score grb_proba rate lum_dist".split()
    flags = "faint positivesubtraction real pointunderneath brightstar variablesource stationary is_transient".split()
    blazar = "instantness_high robustness_high instantness_low robustness_low".split()
    return {
        "cdsxmatch": pick(["Unknown", "RRLyr", "SN", "Galaxy", "QSO", "CataclyV*", "YSO", "Blazar", "Fail 504"]),
        "finkclass": pick(["Unknown", "SN candidate", "Ambiguous"]), "fink_class": pick(["Unknown", "SN candidate", "Ambiguous"]),
        "tns": pick(["", "SN Ia", "SN II"]), "tnsclass": pick(["", "SN Ia"]), "tracklet": pick(["", "TRCK_20260101_00"]),
        "DR3Name": pick(["nan", "Gaia DR3 1", "Unknown"]), "Plx": score(), "e_Plx": score(), "vsx": pick(["Unknown", "EW"]),
        "spicy_id": pick([-1, 12], pa.int32()), "spicy_class": pick(["Unknown", "FS"]), "roid": pick([0, 1, 2, 3], pa.int32()),
        "nalerthist": pick([1, 3, 12], pa.int32()), "observatory": pick(["Fermi", "LIGO", "IceCube"]), "grb_loc_error": score(),
        "mangrove": pa.array([[("lum_dist", "12.5"), ("HyperLEDA_name", "NGC1")]] * n, pa.map_(pa.string(), pa.string())),
        "lc_features": pa.array([[(1, one()), (2, one())] for _ in range(n)], features),
        "N": pa.array([10] * n, pa.int32()), "seed": pa.array([0] * n, pa.int32()), "threshold": pa.array([0.5] * n),
        **{name: score() for name in (*scores, *blazar)}, **{name: flag() for name in flags},
    }


def added_lsst(n, pick):
    score = lambda: pa.array([random.random() for _ in range(n)], pa.float32())
    flag = lambda: pa.array([random.random() < 0.3 for _ in range(n)])
    matches = "simbad_otype gcvs_type x3hsp_type x4lac_type vsx_Type spicy_class mangrove_HyperLEDA_name mangrove_2MASS_name tns_type".split()
    numbers = "gaiadr3_Plx gaiadr3_e_Plx legacydr8_zphot legacydr8_e_zphot legacydr8_pstar tns_redshift mangrove_lum_dist mangrove_ang_dist".split()
    scores = "cats_score snnSnVsOthers_score earlySNIa_score elephant_kstest_science elephant_kstest_template".split()
    return {
        **{name: pick([None, "RRLyr", "SN", "G"]) for name in matches}, "tns_fullname": pick([None, "SN 2025abc"]),
        "gaiadr3_DR3Name": pick([None, "Gaia DR3 1"]), "gaiadr3_VarFlag": pick([None, 0, 1], pa.int32()),
        "legacydr8_fqual": pick([None, 1], pa.int32()), "cats_class": pick([-1, 11, 12, 22], pa.int32()),
        **{name: score() for name in (*numbers, *scores)}, **{name: flag() for name in ("is_sso", "is_first", "is_cataloged")},
    }


# Other names that functions have for a column.
ALIASES = {"ztf": {"oId": "objectId", "mag": "cmagpsf", "magerr": "csigmapsf"}, "lsst": {}}


def table(survey, alerts, schema):
    whole = arrow(schema, {})
    # Stamps are most of the bytes, and two different ones show what many do: parquet keeps equal values once.
    for i, alert in enumerate(alerts):
        alert.update({name: alerts[i % 2][name] for name in ("cutoutScience", "cutoutTemplate", "cutoutDifference")})
    columns = {whole.field(i).name: pa.array([alert[whole.field(i).name] for alert in alerts], whole.field(i).type)
               for i in range(whole.num_fields)}
    current, history, names = HISTORY[survey]
    for name in names:
        values = [[one[name] for one in alert[history] or []] + [alert[current][name]] for alert in alerts]
        columns[f"c{name}"] = columns[f"c{name}c"] = pa.array(values, pa.list_(columns[current].type.field(name).type))
    if survey == "ztf":
        columns["cstd_flux"] = pa.array([[random.uniform(0.2, 3) for _ in times] for times in columns["cjd"].to_pylist()])
        columns["cstampDatac"] = columns["cutoutScience"].field("stampData")
    else:
        columns.update({name: columns["diaSource"].field(name) for name in ("diaObjectId", "ra", "dec")})
        columns["firstDiaSourceMjdTaiFink"] = pa.array([min(values) for values in columns["cmidpointMjdTai"].to_pylist()])
    pick = lambda values, kind=None: pa.array([values[i % len(values)] for i in range(len(alerts))], kind)
    columns.update((added_ztf if survey == "ztf" else added_lsst)(len(alerts), pick))
    columns.update({alias: columns[name] for alias, name in ALIASES[survey].items()})
    return pa.table(columns)


def main(survey, folder):
    random.seed(1)
    readers = [fastavro.reader(open(file, "rb")) for file in sorted(Path(folder).glob("*.avro"))]
    made = table(survey, [alert for reader in readers for alert in reader], readers[0].writer_schema)
    place = HERE / "samples" / f"{survey}.parquet"
    pyarrow.parquet.write_table(made, place, compression="zstd", compression_level=19, version="2.4")
    print(f"{place}: {made.num_rows} alerts, {made.num_columns} columns, {place.stat().st_size >> 10} KiB")


if __name__ == "__main__":
    main(*sys.argv[1:])
