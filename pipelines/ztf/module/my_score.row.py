"""By how many sigma a ZTF detection is brighter than the median of those before it."""

from statistics import median

from redpoll import science_module


@science_module(kind="row", inputs={"magpsf": "list<float>", "sigmapsf": "list<float>"}, returns="double")
def my_score(magpsf, sigmapsf):
    """Brightening of the latest detection over its own uncertainty.

    Parameters
    ----------
    magpsf: list of float
        Magnitudes from PSF-fit photometry, the alert's own last; None for upper limits [mag]
    sigmapsf: list of float
        1-sigma uncertainties of ``magpsf`` [mag]

    Returns
    -------
    double
        (median of the earlier magnitudes - the latest) / its uncertainty; positive is brighter [sigma]. None without an
        earlier detection or a positive uncertainty.

    Source: fields of the ZTF alert schema 4.02.
    """
    earlier = [mag for mag in magpsf[:-1] if mag is not None]
    if not earlier or not sigmapsf[-1]:
        return None
    return (median(earlier) - magpsf[-1]) / sigmapsf[-1]
