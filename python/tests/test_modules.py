"""Redpoll's own modules, against the same numbers computed row by row."""

import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from redpoll.sqltypes import to_arrow
from redpoll.worker.load import load

MODULES = Path(__file__).resolve().parents[2] / "udfs" / "modules"
tomllib = pytest.importorskip("tomllib", reason="manifests need Python 3.11 to be read here")


def run(path, *columns):
    manifest = tomllib.loads((MODULES / path / "module.toml").read_text())
    inputs = [(column["name"], column["type"]) for column in manifest["inputs"]]
    module = load({**manifest, "inputs": inputs, "dir": str(MODULES / path)})
    arrays = [pa.array(values, type=to_arrow(kind)) for values, (_, kind) in zip(columns, inputs)]
    result = module.function(*arrays)
    assert result.cast(module.returns).type == module.returns
    return result.to_pylist()


JD = [[1.0, 2.0, 3.0, 4.0, 9.0], None, [5.0], [], [1.0, 1.0]]
FID = [[1, 1, 2, 1, 1], None, [1], [], [1, 1]]
SIGMA = [[0.1, 0.2, 0.1, 0.1, None], None, [0.1], [], [0.1, 0.1]]
MAG = [[18.0, 17.5, 12.0, 17.0, None], None, [19.0], [], [18.0, 18.5]]
FILTER = [1, 1, 1, None, 1]


def test_history_statistics_use_the_detections_of_the_filter():
    first, null, single, empty, _ = run("ztf/history_statistics", JD, MAG, SIGMA, FID, FILTER)
    weights = np.array([100.0, 25.0, 100.0])
    assert (first["n"], first["median_mag"], first["amplitude_mag"], first["span_days"]) == (3, 17.5, 1.0, 3.0)
    assert first["weighted_mean_mag"] == pytest.approx(np.average([18.0, 17.5, 17.0], weights=weights))
    assert (single["n"], single["median_mag"], single["amplitude_mag"], single["span_days"]) == (1, 19.0, 0.0, 0.0)
    nothing = {"n": 0, "median_mag": None, "weighted_mean_mag": None, "amplitude_mag": None, "span_days": None}
    assert null == empty == nothing


def test_rise_rate_is_the_weighted_line():
    first, null, single, _, same_time = run("ztf/rise_rate", JD, MAG, SIGMA, FID, FILTER, [9] * 5)
    time, mag, sigma = np.array([1.0, 2.0, 4.0]), np.array([18.0, 17.5, 17.0]), np.array([0.1, 0.2, 0.1])
    (slope, _), covariance = np.polyfit(time, mag, 1, w=1 / sigma, cov="unscaled")
    assert first["n"] == 3
    assert first["rate"] == pytest.approx(slope, rel=1e-6)
    assert first["error"] == pytest.approx(math.sqrt(covariance[0, 0]), rel=1e-6)
    assert null == {"n": 0, "rate": None, "error": None}
    assert single == {"n": 1, "rate": None, "error": None}
    assert same_time == {"n": 2, "rate": None, "error": None}


def test_rise_rate_looks_at_the_last_detections_only():
    (row,) = run("ztf/rise_rate", JD[:1], MAG[:1], SIGMA[:1], FID[:1], [1], [2])
    assert row["n"] == 2
    assert row["rate"] == pytest.approx(-0.25)


MJD = [[1.0, 2.0, 4.0, 3.0], [1.0], None]
FLUX = [[1000.0, 2000.0, 4000.0, 9.0], [-5.0], None]
FLUX_ERROR = [[10.0, 10.0, 10.0, 10.0], [1.0], None]
BAND = [["r", "r", "r", "g"], ["r"], None]


def test_flux_statistics_have_a_magnitude_by_the_ab_zero_point():
    first, negative, null = run("lsst/flux_statistics", MJD, FLUX, FLUX_ERROR, BAND, ["r"] * 3)
    assert (first["n"], first["median_flux"], first["amplitude_flux"], first["span_days"]) == (3, 2000.0, 3000.0, 3.0)
    assert first["median_mag"] == pytest.approx(31.4 - 2.5 * math.log10(2000.0))
    assert first["weighted_mean_flux"] == pytest.approx(7000 / 3)
    assert (negative["median_flux"], negative["median_mag"]) == (-5.0, None)
    assert (null["n"], null["median_flux"]) == (0, None)


def test_flux_rate_has_a_change_of_magnitude():
    first, single, null = run("lsst/flux_rate", MJD, FLUX, FLUX_ERROR, BAND, ["r"] * 3, [10] * 3)
    assert first["rate"] == pytest.approx(1000.0)
    assert first["mag_rate"] == pytest.approx(-2.5 * 1000.0 / (7000 / 3 * math.log(10)))
    assert single == {"n": 1, "rate": None, "error": None, "mag_rate": None}
    assert null["n"] == 0
