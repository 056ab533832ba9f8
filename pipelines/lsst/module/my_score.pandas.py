"""By how many sigma a Rubin difference flux is above the median of those before it."""

import numpy as np
import pandas as pd

from redpoll import science_module


@science_module(inputs={"psfFlux": "list<float>", "psfFluxErr": "list<float>"}, returns="double")
def my_score(psfFlux: pd.Series, psfFluxErr: pd.Series) -> pd.Series:
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
    return pd.Series([brightening(flux, error) for flux, error in zip(psfFlux, psfFluxErr)], dtype="float64")


def brightening(flux, error):
    """The score of one light curve, or None."""
    flux, error = np.asarray(flux, float), np.asarray(error, float)
    earlier = flux[:-1][np.isfinite(flux[:-1])]
    if len(earlier) == 0 or not error[-1] > 0:
        return None
    return (flux[-1] - np.median(earlier)) / error[-1]
