"""Slope of the difference flux of a Rubin alert over its last diaSources, in the band of the alert."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from redpoll import science_module


@science_module(
    kind="arrow",
    inputs={
        "midpointMjdTai": "list<double>",
        "psfFlux": "list<float>",
        "psfFluxErr": "list<float>",
        "band": "list<string>",
        "filter": "string",
        "last": "int",
    },
    returns="struct<n: int, rate: double, error: double, mag_rate: double>",
)
def flux_rate(midpointMjdTai, psfFlux, psfFluxErr, band, filter, last):
    """Straight line through the last diaSources, by least squares weighted with 1 / psfFluxErr².

    Points without a flux or a positive uncertainty are left out.

    Parameters
    ----------
    midpointMjdTai: list of double
        Effective mid-exposure time, in any order [MJD TAI, days]
    psfFlux: list of float
        Flux of the PSF fit on the difference image [nJy]
    psfFluxErr: list of float
        1-sigma uncertainty of ``psfFlux`` [nJy]
    band: list of string
        Band of each diaSource (u, g, r, i, z, y)
    filter: string
        Band of the alert, ``diaSource.band``
    last: int
        How many of the latest diaSources to use

    Returns
    -------
    n: int
        Number of diaSources used
    rate: double
        Slope; positive while the source brightens [nJy / day]
    error: double
        1-sigma uncertainty of the slope, from ``psfFluxErr`` alone [nJy / day]
    mag_rate: double
        The slope as a change of AB magnitude at the weighted mean flux F: -2.5 rate / (F ln 10); positive while the
        source fades, null when F is not positive [mag / day]

    All but ``n`` are null with fewer than two diaSources, or when all are of one time.

    Source: Bevington & Robinson 2003, Data Reduction and Error Analysis, section 6.4 (weighted line fit); the
    derivative of m_AB = 31.4 - 2.5 log10(F / nJy); fields of the LSST alert schemas 7.4 to 11.0.
    """
    row = np.repeat(np.arange(len(midpointMjdTai)), pc.fill_null(pc.list_value_length(midpointMjdTai), 0))
    time, flux, sigma = (flat(column) for column in (midpointMjdTai, psfFlux, psfFluxErr))
    same_band = pc.fill_null(pc.equal(band.flatten(), filter.take(pa.array(row))), False)
    keep = np.isfinite(time) & np.isfinite(flux) & (sigma > 0) & same_band.to_numpy(zero_copy_only=False)
    row, time, flux, sigma = row[keep], time[keep], flux[keep], sigma[keep]

    newest_first = np.lexsort((-time, row))
    row, time, flux, sigma = (values[newest_first] for values in (row, time, flux, sigma))
    n = np.bincount(row, minlength=len(midpointMjdTai))
    rank = np.arange(len(row)) - np.repeat(np.cumsum(n) - n, n)
    recent = rank < last.to_numpy(zero_copy_only=False).astype(float)[row]
    row, time, flux, sigma = (values[recent] for values in (row, time, flux, sigma))
    columns = line(row, time, flux, sigma, len(midpointMjdTai))
    return pa.StructArray.from_arrays(columns, names=["n", "rate", "error", "mag_rate"])


def line(row, time, flux, sigma, n_rows):
    """Number of points, slope, its uncertainty and its change of magnitude, of the line through each row's points."""
    weight = sigma**-2.0
    # About the weighted mean time, the sums lose no digits to the size of a date.
    total = np.bincount(row, weight, n_rows)
    n = np.bincount(row, minlength=n_rows)
    with np.errstate(divide="ignore", invalid="ignore"):
        centre = np.bincount(row, weight * time, n_rows) / total
        t = time - centre[row]
        spread = np.bincount(row, weight * t * t, n_rows)
        rate = np.bincount(row, weight * t * flux, n_rows) / spread
        error = spread**-0.5
        mean = np.bincount(row, weight * flux, n_rows) / total
        mag_rate = -2.5 * rate / (mean * np.log(10.0))
    unknown = (n < 2) | ~(spread > 0)
    values = [pa.array(column, mask=unknown) for column in (rate, error)]
    return [pa.array(n, pa.int32()), *values, pa.array(mag_rate, mask=unknown | ~(mean > 0))]


def flat(column):
    """The lists' values one after another, as floats with NaN for null."""
    return column.flatten().to_numpy(zero_copy_only=False).astype(float)
