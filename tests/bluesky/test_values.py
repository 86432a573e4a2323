import math

import pytest

from ptystream.bluesky.targets import Target
from ptystream.bluesky.values import Health, Values, is_mine, values_of

OPEN = {
    "run": "derived",
    "raw_uid": "mine",
    "state": "live",
    "frames": {"received": 90, "lost": {"missing": 5, "dark": 5}},
    "quality": {"held_out_error": 0.25, "covered": 0.5, "resolution_m": 2e-8},
    "lag_s": 0.5,
    "step": 7,
    "last": {"raw_uid": "other", "run": "old", "reason": "complete", "quality": {}},
}


def test_an_open_run_is_told_as_it_is():
    values = values_of(OPEN, "mine", Health(max_lost_share=0.2))
    assert values == Values(0.25, 2e-8, 0.5, 90, 10, 0.5, 7, "derived", "live")


def test_another_runs_status_says_nothing():
    assert repr(values_of(OPEN, "next", Health())) == repr(Values())
    assert not is_mine(OPEN, "next")
    assert is_mine(OPEN, "other")


def test_without_a_run_of_ones_own_any_will_do():
    assert values_of(OPEN, "", Health()).derived_uid == "derived"
    closed = {**OPEN, "run": None}
    assert values_of(closed, "", Health()).derived_uid == "old"


def test_what_the_service_does_not_know_is_nan():
    values = values_of({**OPEN, "quality": {}, "lag_s": None}, "mine", Health())
    assert math.isnan(values.held_out_error)
    assert math.isnan(values.resolution_m)
    assert math.isnan(values.lag_s)
    assert values.coverage == 0


@pytest.mark.parametrize(
    ("limits", "healthy"),
    [
        (Health(max_lag_s=0.4, max_lost_share=1), False),
        (Health(max_lag_s=0.6, max_lost_share=0.1), True),
        (Health(max_lag_s=0.6, max_lost_share=0.09), False),
    ],
)
def test_health_is_lag_and_losses(limits, healthy):
    assert values_of(OPEN, "mine", limits).healthy is healthy


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (Target(quality=0.25), "held-out error 0.25 <= 0.25"),
        (Target(quality=0.24), ""),
        (Target(coverage=0.5), "coverage 0.500 >= 0.500"),
        (Target(coverage=0.51), ""),
        (Target(resolution_m=3e-8), "resolution 2e-08 <= 3e-08"),
        (Target(resolution_m=1e-8), ""),
        (Target(quality=0.3, coverage=0.6), ""),
        (Target(quality=0.3, frames=91), ""),
    ],
)
def test_a_target_is_met_by_all_of_it(target, words):
    assert target.met(values_of(OPEN, "mine", Health())) == words


def test_what_is_not_known_meets_no_target():
    assert Target(quality=1.0).met(Values(frames=100)) == ""
    assert Target(resolution_m=1.0).met(Values(frames=100)) == ""


def test_a_target_of_nothing_is_refused():
    with pytest.raises(ValueError, match="expected quality"):
        Target()
