"""When refinement slows down and ends; time is passed in."""

import math

import pytest

from ptystream.recon.refine import Refiner


def a_refiner(**changes) -> Refiner:
    return Refiner(0.0, **{"max_s": 100.0, "patience_s": 3.0, "gain": 0.01, **changes})


def test_it_goes_on_at_full_rate_while_quality_improves():
    refiner = a_refiner()
    error = 1.0
    for second in range(50):
        assert refiner.saw(error, float(second), 100 * second)
        error *= 0.9
    assert refiner.fade == 1.0
    assert refiner.why is None


def test_a_stall_slows_down_and_then_stops_saying_why():
    refiner = a_refiner()
    fades = []
    for second in range(100):
        refiner.saw(0.5, float(second), 100 * second)
        fades.append(refiner.fade)
        if refiner.why:
            break
    assert refiner.why == "held-out quality stopped improving"
    assert sorted(set(fades), reverse=True)[:3] == [1.0, 0.3, 0.09]
    assert second < 20


def test_an_improvement_too_small_to_count_is_a_stall():
    refiner = a_refiner()
    assert refiner.saw(1.0, 0.0, 1000)
    assert refiner.saw(0.995, 1.0, 1001)
    assert refiner.saw(0.995, 3.0, 1100)
    assert refiner.fade == 0.3


def test_the_newest_is_kept_of_those_that_are_alike():
    refiner = a_refiner()
    assert refiner.saw(1.0, 0.0, 1000)
    assert refiner.saw(1.02, 1.0, 1010)
    assert not refiner.saw(1.03, 2.0, 1020)  # of the best, not of the last one kept
    assert refiner.saw(0.5, 3.0, 1030)
    assert not refiner.saw(0.52, 4.0, 1040)
    assert not refiner.saw(math.nan, 5.0, 1050)


def test_a_stall_ends_nothing_while_something_is_awaited():
    refiner = a_refiner()
    for second in range(40):
        refiner.saw(0.5, float(second), 1000 + 100 * second, awaited=True)
    assert refiner.why is None
    assert refiner.fade == pytest.approx(0.09)
    for second in range(40, 44):
        refiner.saw(0.5, float(second), 1000 + 100 * second)
    assert refiner.why == "held-out quality stopped improving"


def test_what_is_worse_at_first_than_an_empty_object_is_no_stall():
    refiner = a_refiner()
    assert refiner.saw(0.5, 0.0, 1)
    for second in range(1, 10):
        assert not refiner.saw(0.9, float(second), 50 * second)
    assert refiner.fade == 1.0
    assert refiner.saw(0.4, 10.0, 500)
    for second in range(11, 15):
        refiner.saw(0.4, float(second), 50 * second)
    assert refiner.fade == 0.3


def test_the_limit_ends_it_though_it_improves():
    refiner = a_refiner(max_s=5.0)
    for second in range(6):
        refiner.saw(1.0 / (second + 1), float(second), second)
    assert refiner.why == "the limit of 5 s"


def test_without_held_out_frames_time_runs_out_at_last():
    refiner = a_refiner(max_s=30.0)
    second = 0
    while refiner.why is None:
        assert not refiner.saw(math.nan, float(second), 100 * second)
        second += 1
    assert second <= 31


def test_so_many_steps_and_no_more():
    refiner = a_refiner(max_steps=2)
    refiner.stepped()
    assert refiner.why is None
    refiner.stepped()
    assert refiner.why == "the limit of 2 steps"


def test_no_time_means_no_refinement():
    assert a_refiner(max_s=0).why == "no time was given"


def test_what_does_not_learn_does_not_stall():
    """While a challenger is tried the error stands still; then patience begins anew."""
    refiner = a_refiner(max_s=50.0)
    for second in range(30):
        refiner.saw(0.5, float(second), 100 * second, still=second > 1)
    assert refiner.fade == 1.0
    refiner.saw(0.5, 31.9, 3190)
    assert refiner.fade == 1.0
    refiner.saw(0.5, 32.1, 3210)
    assert refiner.fade == 0.3
    refiner.saw(0.5, 50.0, 5000, still=True)
    assert refiner.why == "the limit of 50 s"


def test_slow_steps_are_given_their_number_before_a_stall():
    refiner = a_refiner()
    refiner.saw(0.5, 0.0, 1000)
    refiner.saw(0.5, 10.0, 1020)
    assert refiner.fade == 1.0
    refiner.saw(0.5, 30.0, 1060)
    assert refiner.fade == 0.3
