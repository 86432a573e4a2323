"""A flag that sets once, and does not flap: series of errors, look by look."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptystream.recon.convergence import Convergence
from ptystream.recon.options_quality import QualityOptions

OPTIONS = QualityOptions()
AREA = 1e4


def flags(errors, areas=AREA, options: QualityOptions = OPTIONS) -> list[bool]:
    """Return the flag after each look."""
    follower = Convergence(options)
    areas = np.broadcast_to(areas, np.shape(errors))
    return [
        follower.saw(float(e), float(a)) for e, a in zip(errors, areas, strict=True)
    ]


def changes(seen: list[bool]) -> int:
    """Return how often the flag has changed."""
    return int(np.abs(np.diff([False, *seen])).sum())


@given(
    st.lists(st.floats(-1, 1), min_size=20, max_size=200),
    st.floats(1e-6, 10),
    st.floats(0, 0.45),
)
def test_whatever_stays_within_the_band_never_takes_the_flag_back(noise, level, share):
    errors = level * (1 + share * OPTIONS.moved * np.array(noise))
    assert changes(flags(errors)) <= 1


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("scatter", [0.0, 1e-4, 0.01, 0.1, 0.3])
def test_a_flat_series_with_noise_sets_once_and_soon(scatter, seed):
    noise = np.random.default_rng(seed).normal(size=300)
    seen = flags(0.02 * np.maximum(1 + scatter * noise, 0.01))
    assert changes(seen) == 1
    assert seen.index(True) <= 3 * OPTIONS.looks


@pytest.mark.parametrize("scatter", [0.0, 0.003, 0.02])
def test_an_error_that_falls_is_not_flagged_until_it_stands(scatter):
    look = np.arange(120)
    noise = np.random.default_rng(0).normal(size=120)
    errors = np.exp(-np.minimum(look, 60) / 15) * (1 + scatter * noise)
    seen = flags(errors)
    assert not any(seen[:55])
    assert all(seen[85:])
    assert changes(seen) == 1


def test_a_scan_that_grows_is_not_flagged_until_its_end():
    look = np.arange(100)
    areas = AREA * np.minimum(look + 1, 70) / 70
    seen = flags(np.full(100, 0.1), areas)
    assert seen.index(True) == 69 + OPTIONS.looks - 1
    assert changes(seen) == 1


def test_area_that_is_added_later_takes_the_flag_back_until_it_is_learned():
    still, more = np.full(20, AREA), AREA * (1 + OPTIONS.grown * np.linspace(0, 3, 10))
    after = np.full(20, more[-1])
    areas = np.concatenate([still, more, after])
    seen = flags(np.full(len(areas), 0.1), areas)
    assert seen[19]
    assert not seen[29]
    assert seen[-1]
    assert changes(seen) == 3
    little = np.concatenate([still, np.full(20, AREA * (1 + 0.5 * OPTIONS.grown))])
    assert changes(flags(np.full(40, 0.1), little)) == 1


@pytest.mark.parametrize("to", [0.5, 1.5])
def test_a_clear_change_takes_the_flag_back_and_one_look_does_not(to):
    level = np.ones(30)
    moved = flags(np.concatenate([level, np.full(30, to)]))
    assert not moved[30 + OPTIONS.looks // 2 - 1]
    assert changes(moved) == 3
    glitch = np.concatenate([level, [to], level])
    assert changes(flags(glitch)) == 1


def test_nothing_held_out_is_never_flagged_and_what_stands_still_tells_nothing():
    assert not any(flags(np.full(50, math.nan)))
    seen = flags(np.concatenate([np.ones(20), np.full(50, math.nan), np.ones(5)]))
    assert changes(seen) == 1


def test_nothing_lit_is_never_flagged():
    assert not any(flags(np.ones(50), 0.0))
