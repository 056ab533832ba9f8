"""By how many sigma a Rubin difference flux is above the median of those before it."""

from statistics import median

from redpoll import science_module


@science_module(kind="row", inputs={"psfFlux": "list<float>", "psfFluxErr": "list<float>"}, returns="double")
def my_score(psfFlux, psfFluxErr):
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
        (the latest flux - median of the earlier ones) / its uncertainty; positive is brighter [sigma]. None without an
        earlier detection or a positive uncertainty.

    Source: fields of the LSST alert schema 10.0.
    """
    earlier = [flux for flux in psfFlux[:-1] if flux is not None]
    if not earlier or not psfFluxErr[-1]:
        return None
    return (psfFlux[-1] - median(earlier)) / psfFluxErr[-1]
