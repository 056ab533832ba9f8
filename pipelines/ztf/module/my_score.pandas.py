"""By how many sigma a ZTF detection is brighter than the median of those before it."""

import numpy as np
import pandas as pd

from redpoll import science_module


@science_module(inputs={"magpsf": "list<float>", "sigmapsf": "list<float>"}, returns="double")
def my_score(magpsf: pd.Series, sigmapsf: pd.Series) -> pd.Series:
    """Brightening of the latest detection over its own uncertainty.

    Parameters
    ----------
    magpsf: list of float
        Magnitudes from PSF-fit photometry, the alert's own last; null for upper limits [mag]
    sigmapsf: list of float
        1-sigma uncertainties of ``magpsf`` [mag]

    Returns
    -------
    double
        (median of the earlier magnitudes - the latest) / its uncertainty; positive is brighter [sigma]. Null without an
        earlier detection or a positive uncertainty.

    Source: fields of the ZTF alert schema 4.02.
    """
    return pd.Series([brightening(mag, sigma) for mag, sigma in zip(magpsf, sigmapsf)], dtype="float64")


def brightening(mag, sigma):
    """The score of one light curve, or None."""
    mag, sigma = np.asarray(mag, float), np.asarray(sigma, float)
    earlier = mag[:-1][np.isfinite(mag[:-1])]
    if len(earlier) == 0 or not sigma[-1] > 0:
        return None
    return (np.median(earlier) - mag[-1]) / sigma[-1]
