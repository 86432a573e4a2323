import math

import pytest

from ptystream.bluesky.targets import Target
from ptystream.bluesky.values import Limits, Values, is_mine, values_of

OPEN = {
    "run": "derived",
    "raw_uid": "mine",
    "state": "live",
    "frames": {"received": 90, "lost": {"missing": 5, "dark": 5}},
    "quality": {
        "held_out_error": 0.25,
        "covered": 0.5,
        "resolution_m": 2e-8,
        "converged": True,
    },
    "health": [{"fault": "positions lag", "detail": "by 2 frames", "sure": 0.6}],
    "lag_s": 0.5,
    "step": 7,
    "last": {"raw_uid": "other", "run": "old", "reason": "complete", "quality": {}},
}


def test_an_open_run_is_told_as_it_is():
    values = values_of(OPEN, "mine", Limits(max_lost_share=0.2))
    assert values == Values(
        held_out_error=0.25,
        resolution_m=2e-8,
        coverage=0.5,
        converged=True,
        frames=90,
        frames_lost=10,
        lag_s=0.5,
        step=7,
        derived_uid="derived",
        phase="live",
        health="positions lag (60%)",
        complaint="positions lag",
    )


def test_another_runs_status_says_nothing():
    assert repr(values_of(OPEN, "next", Limits())) == repr(Values())
    assert not is_mine(OPEN, "next")
    assert is_mine(OPEN, "other")


def test_without_a_run_of_ones_own_any_will_do():
    assert values_of(OPEN, "", Limits()).derived_uid == "derived"
    closed = {**OPEN, "run": None}
    assert values_of(closed, "", Limits()).derived_uid == "old"


def test_what_the_service_does_not_know_is_nan():
    values = values_of({**OPEN, "quality": {}, "lag_s": None}, "mine", Limits())
    assert math.isnan(values.held_out_error)
    assert math.isnan(values.resolution_m)
    assert math.isnan(values.lag_s)
    assert values.coverage == 0


@pytest.mark.parametrize(
    ("limits", "complaint"),
    [
        (Limits(0.4, 1, sure=1), "frames lag by 0.5 s"),
        (Limits(0.6, 0.1, sure=1), ""),
        (Limits(0.6, 0.09, sure=1), "10 of 100 frames lost"),
        (
            Limits(0.4, 0.09),
            "frames lag by 0.5 s; 10 of 100 frames lost; positions lag",
        ),
        (Limits(0.6, 1, faults=frozenset({"positions lag"})), "positions lag"),
        (Limits(0.6, 1, faults=frozenset({"no light"})), ""),
    ],
)
def test_healthy_are_data_without_lag_losses_and_faults(limits, complaint):
    assert values_of(OPEN, "mine", limits).complaint == complaint


def test_what_was_found_in_a_scan_that_is_over_complains_no_more():
    last = {**OPEN["last"], "raw_uid": "mine", "health": OPEN["health"]}
    values = values_of({**OPEN, "run": None, "last": last}, "mine", Limits())
    assert (values.health, values.complaint) == ("positions lag (60%)", "")


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
        (Target(converged=True), "converged"),
        (Target(coverage=0.5, converged=True), "coverage 0.500 >= 0.500, converged"),
    ],
)
def test_a_target_is_met_by_all_of_it(target, words):
    assert target.met(values_of(OPEN, "mine", Limits())) == words


def test_what_is_not_known_meets_no_target():
    assert Target(quality=1.0).met(Values(frames=100)) == ""
    assert Target(resolution_m=1.0).met(Values(frames=100)) == ""
    assert Target(converged=True).met(Values(frames=100)) == ""


def test_a_target_of_nothing_is_refused():
    with pytest.raises(ValueError, match="expected quality"):
        Target()
