"""By how many sigma a ZTF detection is brighter than the median of those before it."""

import numpy as np
import pyarrow as pa

from redpoll import science_module


@science_module(kind="arrow", inputs={"magpsf": "list<float>", "sigmapsf": "list<float>"}, returns="double")
def my_score(magpsf: pa.ListArray, sigmapsf: pa.ListArray) -> pa.Array:
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
    return pa.array([brightening(*row) for row in zip(rows(magpsf), rows(sigmapsf))], pa.float64())


def rows(column):
    """The lists of a column as numpy arrays, NaN for null."""
    values, ends = column.values.to_numpy(zero_copy_only=False).astype(float), column.offsets.to_numpy()
    return [values[start:end] for start, end in zip(ends, ends[1:])]


def brightening(mag, sigma):
    """The score of one light curve, or None."""
    earlier = mag[:-1][np.isfinite(mag[:-1])]
    if len(earlier) == 0 or not sigma[-1] > 0:
        return None
    return (np.median(earlier) - mag[-1]) / sigma[-1]
