"""Statistics of the difference flux over the history of a Rubin alert, in the band of the alert."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from redpoll import science_module

# m_AB = 31.4 - 2.5 log10(flux / nJy): a source of 3631 Jy has magnitude 0.
AB_ZERO_POINT = 31.4


@science_module(
    kind="arrow",
    inputs={
        "midpointMjdTai": "list<double>",
        "psfFlux": "list<float>",
        "psfFluxErr": "list<float>",
        "band": "list<string>",
        "filter": "string",
    },
    returns="struct<n: int, median_flux: double, weighted_mean_flux: double, amplitude_flux: double, "
    "span_days: double, median_mag: double>",
)
def flux_statistics(midpointMjdTai, psfFlux, psfFluxErr, band, filter):
    """Statistics of the difference flux over the diaSources in the alert's band.

    Points without a flux or a positive uncertainty are left out. A difference flux may be negative (fainter than
    in the template).

    Parameters
    ----------
    midpointMjdTai: list of double
        Effective mid-exposure time, history first, the alert last [MJD TAI, days]
    psfFlux: list of float
        Flux of the PSF fit on the difference image [nJy]
    psfFluxErr: list of float
        1-sigma uncertainty of ``psfFlux`` [nJy]
    band: list of string
        Band of each diaSource (u, g, r, i, z, y)
    filter: string
        Band of the alert, ``diaSource.band``

    Returns
    -------
    n: int
        Number of diaSources used
    median_flux: double
        Median flux [nJy]
    weighted_mean_flux: double
        Mean flux weighted by 1 / psfFluxErr² [nJy]
    amplitude_flux: double
        Largest less smallest flux; not halved [nJy]
    span_days: double
        Time from the first to the last diaSource used [days]
    median_mag: double
        AB magnitude of the median flux; null when it is not positive [mag]

    All but ``n`` are null without a diaSource.

    Source: fields of the LSST alert schemas 7.4 to 11.0; AB zero point of 31.4 for nJy, Oke & Gunn 1983, ApJ 266, 713.
    """
    row = np.repeat(np.arange(len(midpointMjdTai)), pc.fill_null(pc.list_value_length(midpointMjdTai), 0))
    time, flux, sigma = (flat(column) for column in (midpointMjdTai, psfFlux, psfFluxErr))
    same_band = pc.fill_null(pc.equal(band.flatten(), filter.take(pa.array(row))), False)
    keep = np.isfinite(time) & np.isfinite(flux) & (sigma > 0) & same_band.to_numpy(zero_copy_only=False)
    row, time, flux, sigma = row[keep], time[keep], flux[keep], sigma[keep]

    n_rows = len(midpointMjdTai)
    order = np.lexsort((flux, row))
    row, time, flux, weight = row[order], time[order], flux[order], sigma[order] ** -2.0
    n = np.bincount(row, minlength=n_rows)
    found = n > 0
    start = (np.cumsum(n) - n)[found]
    count = n[found]
    # Fluxes are sorted within each row, so order statistics are look-ups.
    median = (flux[start + (count - 1) // 2] + flux[start + count // 2]) / 2
    mean = np.bincount(row, weight * flux, n_rows)[found] / np.bincount(row, weight, n_rows)[found]
    amplitude = flux[start + count - 1] - flux[start]
    span = np.maximum.reduceat(time, start) - np.minimum.reduceat(time, start) if len(start) else start.astype(float)
    with np.errstate(divide="ignore", invalid="ignore"):
        mag = np.where(median > 0, AB_ZERO_POINT - 2.5 * np.log10(median), np.nan)
    fields = {
        "median_flux": median,
        "weighted_mean_flux": mean,
        "amplitude_flux": amplitude,
        "span_days": span,
        "median_mag": mag,
    }
    columns = [pa.array(n, pa.int32()), *(spread(values, found) for values in fields.values())]
    return pa.StructArray.from_arrays(columns, names=["n", *fields])


def flat(column):
    """The lists' values one after another, as floats with NaN for null."""
    return column.flatten().to_numpy(zero_copy_only=False).astype(float)


def spread(values, found):
    """``values`` in the rows that are ``found``; null in the others and where a value is NaN."""
    full = np.full(len(found), np.nan)
    full[found] = values
    return pa.array(full, from_pandas=True)
