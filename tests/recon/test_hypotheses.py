import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptystream.recon.findings import FAULTS
from ptystream.recon.health_words import remedy
from ptystream.recon.hypotheses import (
    AS_TOLD,
    GAP,
    Hypothesis,
    Places,
    all_hypotheses,
    scaled,
)

INDEX = np.arange(400)


def true_places(seed: int = 0) -> np.ndarray:
    """A way that never goes twice through a place."""
    steps = np.random.default_rng(seed).normal(3, 1, (len(INDEX), 2))
    return np.cumsum(steps, 0)


def told(hypothesis: Hypothesis, places: np.ndarray) -> Places:
    """What would be told if the hypothesis were right: its fault put in."""
    back = np.linalg.inv(np.array(hypothesis.matrix, float))
    was = Places(INDEX, places, 99).at((INDEX - hypothesis.lag) * hypothesis.rate)
    known = np.isfinite(was).all(1)
    return Places(INDEX[known], (was @ back.T)[known], 99)


@pytest.mark.parametrize("hypothesis", all_hypotheses(), ids=str)
def test_each_hypothesis_undoes_its_own_fault(hypothesis):
    truth = true_places()
    found = hypothesis.places(told(hypothesis, truth), INDEX)
    known = np.isfinite(found).all(1)
    assert known.sum() >= 30
    # Between two places that are told, a line is drawn: rates may be off by its bend.
    loose = 4.0 * max(hypothesis.rate, 1 / hypothesis.rate)
    within = loose if hypothesis.rate != 1 else 1e-9
    assert np.abs(found - truth)[known].max() < within


def test_every_fault_has_a_hypothesis_and_words():
    every = all_hypotheses()
    assert {h.fault for h in every} == set(FAULTS)
    assert len(set(every)) == len(every)
    assert AS_TOLD.fault == ""
    words = [remedy(h) for h in every]
    assert len(set(words)) == len(words)
    assert all(20 < len(w) < 160 for w in words)


def test_a_scale_has_neighbours_on_the_same_axes():
    for near in scaled(1.25, 1).neighbours():
        assert near.scale[1] == 1
        assert near.scale[0] == pytest.approx(1.25, rel=0.13)
    assert Hypothesis(lag=1).neighbours() == []


@given(st.sets(st.integers(0, 60), min_size=2), st.integers(-5, 65))
def test_a_place_is_told_between_neighbours_and_nowhere_else(indices, at):
    index = np.array(sorted(indices))
    place = np.stack([index, -2 * index], 1).astype(float)
    (found,) = Places(index[::-1], place[::-1], 99).at(np.array([at]))
    low = [i for i in indices if i <= at]
    high = [i for i in indices if i >= at]
    if at in indices or (low and high and min(high) - max(low) <= GAP):
        assert found == pytest.approx([at, -2 * at])
    else:
        assert np.isnan(found).all()


def test_along_a_spiral_nothing_is_drawn_between_places():
    told = Places(np.arange(3), np.array([[0.0, 0], [3, 0], [50, 0]]), near_px=10)
    found = told.at(np.array([0.5, 1, 1.5, 2]))
    assert np.isfinite(found).all(1).tolist() == [True, True, False, True]
