"""A filter as Fink writes those of Rubin alerts: a plain function with the name of its folder."""

DESCRIPTION = "Mine"


def flux_of(diaSource):
    return diaSource.psfFlux


def mine(diaSource, is_sso):
    """Flux above zero."""
    return (flux_of(diaSource) > 0) & ~is_sso
