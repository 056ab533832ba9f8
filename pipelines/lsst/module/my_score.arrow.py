"""By how many sigma a Rubin difference flux is above the median of those before it."""

import numpy as np
import pyarrow as pa

from redpoll import science_module


@science_module(kind="arrow", inputs={"psfFlux": "list<float>", "psfFluxErr": "list<float>"}, returns="double")
def my_score(psfFlux: pa.ListArray, psfFluxErr: pa.ListArray) -> pa.Array:
    """Brightening of the latest flux over its own uncertainty.

    Parameters
    ----------
    psfFlux: list of float
        Fluxes of the PSF fit on difference images, the alert's own last [nJy]
    psfFluxErr: list of float
        1-sigma uncertainties of ``psfFlux`` [nJy]

    Returns
    -------
    double
        (the latest flux - median of the earlier ones) / its uncertainty; positive is brighter [sigma]. Null without an
        earlier detection or a positive uncertainty.

    Source: fields of the LSST alert schema 10.0.
    """
    return pa.array([brightening(*row) for row in zip(rows(psfFlux), rows(psfFluxErr))], pa.float64())


def rows(column):
    """The lists of a column as numpy arrays, NaN for null."""
    values, ends = column.values.to_numpy(zero_copy_only=False).astype(float), column.offsets.to_numpy()
    return [values[start:end] for start, end in zip(ends, ends[1:])]


def brightening(flux, error):
    """The score of one light curve, or None."""
    earlier = flux[:-1][np.isfinite(flux[:-1])]
    if len(earlier) == 0 or not error[-1] > 0:
        return None
    return (flux[-1] - np.median(earlier)) / error[-1]
