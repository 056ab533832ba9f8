"""Brightness statistics over the detections of a ZTF alert's history, in the filter of the alert."""

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
    },
    returns="struct<n: int, median_mag: double, weighted_mean_mag: double, amplitude_mag: double, span_days: double>",
)
def history_statistics(jd, magpsf, sigmapsf, fid, filter):
    """Brightness statistics over the detections in the alert's filter.

    Upper limits (no ``magpsf``), other filters and points without a positive uncertainty are left out.

    Parameters
    ----------
    jd: list of double
        Julian date at the start of each exposure, history first, the alert last [days]
    magpsf: list of float
        Magnitude from PSF-fit photometry, null for upper limits [mag]
    sigmapsf: list of float
        1-sigma uncertainty of ``magpsf`` [mag]
    fid: list of int
        Filter of each exposure (1 g, 2 r, 3 i)
    filter: int
        Filter of the alert, ``candidate.fid``

    Returns
    -------
    n: int
        Number of detections used
    median_mag: double
        Median magnitude [mag]
    weighted_mean_mag: double
        Mean magnitude weighted by 1 / sigmapsf² [mag]
    amplitude_mag: double
        Faintest less brightest magnitude; not halved [mag]
    span_days: double
        Time from the first to the last detection used [days]

    All but ``n`` are null without a detection.

    Source: fields of the ZTF alert schema 3.3 and 4.02; Masci et al. 2019, PASP 131, 018003.
    """
    row = np.repeat(np.arange(len(jd)), pc.fill_null(pc.list_value_length(jd), 0))
    time, mag, sigma, band = (flat(column) for column in (jd, magpsf, sigmapsf, fid))
    wanted = filter.to_numpy(zero_copy_only=False).astype(float)
    keep = np.isfinite(time) & np.isfinite(mag) & (sigma > 0) & (band == wanted[row])
    row, time, mag, sigma = row[keep], time[keep], mag[keep], sigma[keep]

    order = np.lexsort((mag, row))
    row, time, mag, weight = row[order], time[order], mag[order], sigma[order] ** -2.0
    n = np.bincount(row, minlength=len(jd))
    found = n > 0
    start = (np.cumsum(n) - n)[found]
    count = n[found]
    # Magnitudes are sorted within each row, so order statistics are look-ups.
    median = (mag[start + (count - 1) // 2] + mag[start + count // 2]) / 2
    mean = np.bincount(row, weight * mag, len(jd))[found] / np.bincount(row, weight, len(jd))[found]
    amplitude = mag[start + count - 1] - mag[start]
    span = np.maximum.reduceat(time, start) - np.minimum.reduceat(time, start) if len(start) else start.astype(float)
    fields = {"median_mag": median, "weighted_mean_mag": mean, "amplitude_mag": amplitude, "span_days": span}
    columns = [pa.array(n, pa.int32()), *(spread(values, found) for values in fields.values())]
    return pa.StructArray.from_arrays(columns, names=["n", *fields])


def flat(column):
    """The lists' values one after another, as floats with NaN for null."""
    return column.flatten().to_numpy(zero_copy_only=False).astype(float)


def spread(values, found):
    """``values`` in the rows that are ``found``, null in the others."""
    full = np.zeros(len(found))
    full[found] = values
    return pa.array(full, mask=~found)
