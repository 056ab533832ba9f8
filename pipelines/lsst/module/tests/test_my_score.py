"""The score of light curves whose answer is known. `redpoll module test` runs this in the module's own environment."""

import pytest
import redpoll

from my_score import my_score

ALERTS = [
    {"diaSourceId": 1, "psfFlux": [1000.0, None, 2000.0, 2500.0], "psfFluxErr": [10.0, None, 10.0, 25.0]},
    {"diaSourceId": 2, "psfFlux": [900.0], "psfFluxErr": [9.0]},
]


def test_the_latest_flux_is_held_against_the_median_of_the_earlier_ones():
    trial = redpoll.test(my_score, ALERTS)
    assert not trial.failures
    assert trial.values[0].as_py() == pytest.approx((2500.0 - 1500.0) / 25.0)


def test_a_first_detection_has_no_score():
    assert redpoll.test(my_score, ALERTS).values[1].as_py() is None
