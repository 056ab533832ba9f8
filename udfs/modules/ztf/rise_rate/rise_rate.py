"""Slope of a ZTF light curve over its last detections, in the filter of the alert."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from redpoll import science_module


@science_module(
    kind="arrow",
    inputs={
        "jd": "list<double>",
        "magpsf": "list<float>",
        "sigmapsf": "list<float>",
        "fid": "list<int>",
        "filter": "int",
        "last": "int",
    },
    returns="struct<n: int, rate: double, error: double>",
)
def rise_rate(jd, magpsf, sigmapsf, fid, filter, last):
    """Straight line through the last detections, by least squares weighted with 1 / sigmapsf².

    Upper limits (no ``magpsf``), other filters and points without a positive uncertainty are left out.

    Parameters
    ----------
    jd: list of double
        Julian date at the start of each exposure, in any order [days]
    magpsf: list of float
        Magnitude from PSF-fit photometry, null for upper limits [mag]
    sigmapsf: list of float
        1-sigma uncertainty of ``magpsf`` [mag]
    fid: list of int
        Filter of each exposure (1 g, 2 r, 3 i)
    filter: int
        Filter of the alert, ``candidate.fid``
    last: int
        How many of the latest detections to use

    Returns
    -------
    n: int
        Number of detections used
    rate: double
        Slope; negative while the source brightens [mag / day]
    error: double
        1-sigma uncertainty of the slope, from ``sigmapsf`` alone [mag / day]

    ``rate`` and ``error`` are null with fewer than two detections, or when all are of one time.

    Source: Bevington & Robinson 2003, Data Reduction and Error Analysis, section 6.4 (weighted line fit); fields of
    the ZTF alert schema 3.3 and 4.02.
    """
    row = np.repeat(np.arange(len(jd)), pc.fill_null(pc.list_value_length(jd), 0))
    time, mag, sigma, band = (flat(column) for column in (jd, magpsf, sigmapsf, fid))
    wanted, last = (c.to_numpy(zero_copy_only=False).astype(float) for c in (filter, last))
    keep = np.isfinite(time) & np.isfinite(mag) & (sigma > 0) & (band == wanted[row])
    row, time, mag, sigma = row[keep], time[keep], mag[keep], sigma[keep]

    newest_first = np.lexsort((-time, row))
    row, time, mag, sigma = (values[newest_first] for values in (row, time, mag, sigma))
    n = np.bincount(row, minlength=len(jd))
    rank = np.arange(len(row)) - np.repeat(np.cumsum(n) - n, n)
    recent = rank < last[row]
    row, time, mag, sigma = (values[recent] for values in (row, time, mag, sigma))
    return pa.StructArray.from_arrays(line(row, time, mag, sigma, len(jd)), names=["n", "rate", "error"])


def line(row, time, value, sigma, n_rows):
    """Number of points, slope and its uncertainty of the weighted line through each row's points."""
    weight = sigma**-2.0
    # About the weighted mean time, the sums lose no digits to the size of a Julian date.
    total = np.bincount(row, weight, n_rows)
    n = np.bincount(row, minlength=n_rows)
    with np.errstate(divide="ignore", invalid="ignore"):
        centre = np.bincount(row, weight * time, n_rows) / total
        t = time - centre[row]
        spread = np.bincount(row, weight * t * t, n_rows)
        rate = np.bincount(row, weight * t * value, n_rows) / spread
        error = spread**-0.5
    unknown = (n < 2) | ~(spread > 0)
    return [pa.array(n, pa.int32()), pa.array(rate, mask=unknown), pa.array(error, mask=unknown)]


def flat(column):
    """The lists' values one after another, as floats with NaN for null."""
    return column.flatten().to_numpy(zero_copy_only=False).astype(float)
