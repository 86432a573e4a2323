"""The frame store: bounded, faithful to the counts, fair to every region."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ptystream.buffers.sampling import Mix, Sampler
from ptystream.buffers.store import FrameStore, is_held_out


def filled(positions: np.ndarray, capacity: int, held_out: float = 0.0) -> FrameStore:
    store = FrameStore(capacity, 8, held_out_share=held_out)
    for index, position in enumerate(positions):
        store.put(index, np.full((8, 8), index % 7, np.uint16), position)
    return store


@pytest.mark.parametrize(
    ("dtype", "wide", "top"),
    [("u1", False, 255), ("u2", False, 65535), ("u4", True, 2**31 - 1)],
)
def test_counts_come_back_as_their_roots(dtype, wide, top):
    store = FrameStore(2, 2, held_out_share=0, wide=wide)
    counts = np.array([[0, 1], [2, top]], dtype)
    slot = store.put(0, counts, np.zeros(2))
    got = store.amplitude(torch.tensor([slot]))[0]
    np.testing.assert_allclose(got, np.sqrt(counts.astype(float)), rtol=1e-6)


def test_counts_beyond_a_narrow_store_saturate_rather_than_wrap():
    store = FrameStore(1, 2, held_out_share=0)
    store.put(0, np.full((2, 2), 70_000, np.uint32), np.zeros(2))
    assert store.amplitude(torch.tensor([0])).max() == pytest.approx(65535**0.5)


def test_memory_does_not_grow_and_evictions_are_counted():
    store = filled(np.random.default_rng(0).uniform(0, 100, (500, 2)), 64)
    stats = store.stats()
    assert (stats.frames, stats.evicted, stats.capacity) == (64, 500 - 64, 64)
    assert len(store.counts) == 64


def test_bookkeeping_does_not_grow_with_the_scan_either():
    store = filled(np.random.default_rng(0).uniform(0, 100, (2000, 2)), 32)
    assert len(store._crowds) <= 4 * 32
    assert sum(len(crowd) for crowd in store._places.values()) == 32


def test_a_long_scan_keeps_every_region():
    """Ten times the store, line by line: each tenth keeps its share, old ones too."""
    rows = np.repeat(np.arange(100), 10) * 2.0
    columns = np.tile(np.arange(10), 100) * 2.0
    store = filled(np.stack([rows, columns], 1), 100)
    kept = np.histogram(store.position_px[:, 0], bins=10, range=(0, 200))[0]
    assert kept.min() >= 5, kept


@pytest.mark.parametrize("order", ["raster", "snake", "random"])
@pytest.mark.parametrize("step", [0.5, 1.4, 1.6])
def test_no_region_is_emptied_whatever_the_path(step, order):
    """Ten stores of frames; in 16 regions at least a fifth of their share stays."""
    y, x = np.mgrid[:40, :50] * step
    if order == "snake":
        x[1::2] = x[1::2, ::-1].copy()
    places = np.stack([y.ravel(), x.ravel()], 1)
    if order == "random":
        places = np.random.default_rng(0).permutation(places)
    store = filled(places, 200)
    top = places.max(0) + step
    kept, *_ = np.histogram2d(
        *store.position_px.T, bins=4, range=[(0, top[0]), (0, top[1])]
    )
    assert kept.min() >= 0.2 * 200 / 16, kept


def test_a_place_visited_again_and_again_cannot_push_out_the_rest():
    once = np.stack([np.arange(32) * 4.0, np.zeros(32)], 1)
    again = np.zeros((1000, 2))
    store = filled(np.concatenate([once, again]), 40)
    assert len(np.unique(store.position_px[:, 0])) >= 28  # one place is crowded


@given(st.floats(0.02, 0.5))
def test_held_out_exposures_are_about_their_share_and_depend_on_index_alone(share):
    chosen = [is_held_out(i, share) for i in range(5000)]
    assert np.mean(chosen) == pytest.approx(share, abs=0.02)
    assert chosen == [is_held_out(i, share) for i in range(5000)]


@pytest.mark.parametrize("columns", [20, 60, 64, 100])
def test_held_out_exposures_form_no_line_or_column(columns):
    chosen = np.array([is_held_out(i, 0.05) for i in range(columns * 60)])
    raster = chosen.reshape(60, columns)
    assert raster.sum(0).max() < 15
    assert raster.sum(1).max() < 0.5 * columns


def test_nothing_held_out_is_ever_picked():
    store = filled(np.random.default_rng(0).uniform(0, 40, (400, 2)), 400, 0.2)
    sampler = Sampler(store, batch=16, reach=1 / 4, seed=0)
    picked = np.concatenate([sampler.pick(Mix()) for _ in range(200)])
    assert store.held_out.sum() > 40
    assert not store.held_out[picked].any()


def test_batches_lie_together_on_dense_scans():
    store = filled(np.random.default_rng(0).uniform(0, 40, (4000, 2)), 4000)
    sampler = Sampler(store, batch=16, reach=1 / 4, seed=0)
    for _ in range(20):
        spread = np.ptp(store.position_px[sampler.pick(Mix())], axis=0)
        assert spread.max() <= 2 * (8 // 3)


def test_sparse_scans_still_fill_a_batch_from_neighbours():
    grid = np.stack(np.meshgrid(np.arange(8), np.arange(8)), -1).reshape(-1, 2) * 6.0
    sampler = Sampler(filled(grid, 64), batch=9, reach=1 / 4, seed=0)
    slots = sampler.pick(Mix())
    assert len(slots) == 9
    assert len(set(slots.tolist())) == 9


def test_fresh_exposures_come_first_while_live():
    store = filled(np.random.default_rng(0).uniform(0, 1000, (4000, 2)), 4000)
    sampler = Sampler(store, batch=10, reach=1e3, seed=0)
    mix = Mix(fresh=0.5, poor=0.0, newest=100)
    picked = np.concatenate([sampler.pick(mix) for _ in range(100)])
    assert 0.45 < (store.order[picked] >= 3900).mean() < 0.6


def test_what_was_never_picked_is_as_poorly_fitted_as_can_be():
    rng = np.random.default_rng(0)
    store = filled(rng.uniform(0, 1000, (400, 2)), 500)
    sampler = Sampler(store, batch=10, reach=1e3, seed=0)
    sampler.loss[:] = 1.0
    poor = Mix(0.0, 1.0)
    for index in range(400, 440):
        store.put(index, np.zeros((8, 8), np.uint16), rng.uniform(0, 1000, 2))
    first = np.concatenate([sampler.pick(poor) for _ in range(6)])
    assert (first >= 400).mean() > 0.3
    assert not np.isinf(sampler.loss[first]).any()  # once picked, like any other
    later = np.concatenate([sampler.pick(poor) for _ in range(30)])
    assert (later[-100:] >= 400).mean() < 0.2


def test_losses_from_before_a_slot_was_used_again_are_not_taken():
    store = filled(np.random.default_rng(0).uniform(0, 40, (60, 2)), 60)
    sampler = Sampler(store, batch=8, reach=1e3, seed=0)
    seen = np.arange(60.0)
    seen[7] = np.inf  # not picked yet
    reused = store.put(60, np.zeros((8, 8), np.uint16), np.zeros(2))
    sampler.saw(seen, arrivals=60)
    expected = np.where(np.isin(np.arange(60), [7, reused]), 0, seen)
    np.testing.assert_array_equal(sampler.loss, expected)


def test_poorly_fitted_exposures_are_preferred():
    store = filled(np.random.default_rng(0).uniform(0, 1000, (400, 2)), 400)
    sampler = Sampler(store, batch=10, reach=1e3, seed=0)
    sampler.loss[:] = np.arange(400)
    picked = np.concatenate([sampler.pick(Mix(0.0, 1.0)) for _ in range(50)])
    assert picked.mean() > 300


def test_an_empty_store_gives_no_batch():
    sampler = Sampler(FrameStore(4, 8, held_out_share=0), batch=2, reach=1.0, seed=0)
    assert len(sampler.pick(Mix())) == 0


def test_no_exposure_is_twice_in_a_batch():
    store = filled(np.random.default_rng(0).uniform(0, 40, (300, 2)), 300)
    sampler = Sampler(store, batch=64, reach=3.0, seed=0)
    sampler.loss[:] = np.arange(300)
    for _ in range(50):
        slots = sampler.pick(Mix())
        assert len(slots) == len(np.unique(slots)) == 64


def test_a_wide_reach_spreads_the_batch_over_the_scan():
    store = filled(np.random.default_rng(0).uniform(0, 24, (300, 2)), 300)
    slots = Sampler(store, batch=64, reach=3.0, seed=0).pick(Mix(0.0, 0.0))
    assert np.ptp(store.position_px[slots], axis=0).min() > 20
