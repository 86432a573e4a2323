"""Whatever was put into the store: what every batch has in common."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ptystream.buffers.sampling import NEAREST, Mix, Sampler
from ptystream.buffers.store import FrameStore

SIZE = 8
places = st.tuples(*[st.floats(-1e4, 1e4)] * 2)
shares = st.floats(0, 1)


@st.composite
def mixes(draw: st.DrawFn) -> Mix:
    fresh = draw(shares)
    return Mix(fresh, draw(st.floats(0, 1 - fresh)), draw(st.integers(0, 50)))


@st.composite
def stores(draw: st.DrawFn) -> FrameStore:
    share = draw(st.sampled_from([0.0, 0.2, 1.0]))
    store = FrameStore(draw(st.integers(1, 20)), SIZE, held_out_share=share)
    for index, place in enumerate(draw(st.lists(places, max_size=40))):
        store.put(index, np.zeros((SIZE, SIZE), "<u2"), np.array(place))
    return store


@given(
    store=stores(),
    mix=mixes(),
    batch=st.integers(1, 12),
    reach=st.floats(0, 50),
    parity=st.sampled_from([None, 0, 1]),
    seed=st.integers(0, 5),
)
def test_every_batch_is_near_distinct_and_may_be_trained_on(
    store, mix, batch, reach, parity, seed
):
    sampler = Sampler(store, batch=batch, reach=reach, seed=seed, parity=parity)
    may = np.flatnonzero(~store.held_out[: store.frames])
    if parity is not None:
        may = may[store.index[may] % 2 == parity]
    for _ in range(3):
        slots = sampler.pick(mix)
        assert len(slots) == len(set(slots.tolist()))
        assert (0 < len(slots) <= batch) if len(may) else not len(slots)
        assert set(slots.tolist()) <= set(may.tolist())
        if len(slots):
            spread = np.ptp(store.position_px[slots], axis=0).max()
            assert spread <= 2 * max(NEAREST, reach) * SIZE + 1e-6


@given(store=stores(), mix=mixes(), seed=st.integers(0, 5))
def test_the_same_seed_picks_the_same(store, mix, seed):
    one, other = (Sampler(store, batch=5, reach=3, seed=seed) for _ in range(2))
    for _ in range(3):
        np.testing.assert_array_equal(one.pick(mix), other.pick(mix))


@given(store=stores())
def test_a_new_exposure_is_picked_among_the_poor_until_it_has_been(store):
    sampler = Sampler(store, batch=3, reach=1e5, seed=0)
    sampler.pick(Mix(0, 1))
    slot = store.put(1000, np.zeros((SIZE, SIZE), "<u2"), np.zeros(2))
    if store.held_out[slot]:
        return
    sampler.loss[:] = np.minimum(sampler.loss, 1.0)
    assert slot in sampler.pick(Mix(0, 1))
    assert np.isfinite(sampler.loss[slot])


@given(
    capacity=st.integers(1, 12),
    put=st.lists(st.tuples(places, st.integers(0, 65535)), max_size=40),
)
def test_the_store_never_holds_more_and_what_it_holds_is_true(capacity, put):
    store = FrameStore(capacity, 2, held_out_share=0.3)
    for index, (place, value) in enumerate(put):
        slot = store.put(index, np.full((2, 2), value, "<u2"), np.array(place))
        assert store.index[slot] == index
    assert store.frames == min(capacity, len(put))
    assert store.evicted == len(put) - store.frames
    held = store.index[: store.frames].tolist()
    assert len(set(held)) == store.frames
    for slot, index in enumerate(held):
        place, value = put[index]
        assert tuple(store.position_px[slot]) == place
        assert (store.counts[slot].numpy().view(np.uint16) == value).all()
