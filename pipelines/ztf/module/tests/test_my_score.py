"""The score of light curves whose answer is known. `redpoll module test` runs this in the module's own environment."""

import pytest
import redpoll

from my_score import my_score

ALERTS = [
    {"candid": 1, "magpsf": [18.0, None, 19.0, 17.5], "sigmapsf": [0.1, None, 0.1, 0.25]},
    {"candid": 2, "magpsf": [17.5], "sigmapsf": [0.1]},
]


def test_the_latest_detection_is_held_against_the_median_of_the_earlier_ones():
    trial = redpoll.test(my_score, ALERTS)
    assert not trial.failures
    assert trial.values[0].as_py() == pytest.approx((18.5 - 17.5) / 0.25)


def test_a_first_detection_has_no_score():
    assert redpoll.test(my_score, ALERTS).values[1].as_py() is None
