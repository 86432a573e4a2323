"""Whatever comes, and however much: what waits stays within its bounds."""

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ptystream.ingest.indices import IndexSet
from ptystream.ingest.pairing import Pairing
from ptystream.wire.messages import Frame, Samples

MOST_FRAMES, MOST_SAMPLES, WAIT_S = 3, 8, 5.0
PIXEL = np.ones((1, 1), "|u1")

frames = st.builds(lambda i: Frame("s", i, PIXEL), st.integers(0, 20))
samples = st.builds(
    lambda first, n, per: Samples("s", first, per, np.ones((n, 2))),
    st.integers(0, 40),
    st.integers(0, 12),
    st.sampled_from([1, 2, 2, 2, 3]),
)
steps = st.lists(st.tuples(frames | samples | st.none(), st.floats(0, 4)), max_size=60)


def give(pairing: Pairing, message: Any, now_s: float) -> list[Any]:
    if message is None:
        return pairing.expire(now_s)
    if isinstance(message, Frame):
        return pairing.add_frame(message, now_s)
    return pairing.add_samples(message)


@given(steps)
def test_bounds_hold_and_every_loss_is_counted(steps):
    pairing = Pairing(
        max_frames=MOST_FRAMES, max_samples=MOST_SAMPLES, frame_wait_s=WAIT_S
    )
    done: list[int] = []
    now_s = 0.0
    since_s: dict[int, float] = {}
    for message, later_s in steps:
        now_s += later_s
        if isinstance(message, Frame):
            since_s.setdefault(message.index, now_s)
        done += [e.frame.index for e in give(pairing, message, now_s)]
        counts = pairing.counts()
        assert counts.frames_waiting <= MOST_FRAMES
        assert counts.samples_waiting <= MOST_SAMPLES
        lost = sum(counts.frames_lost.values())
        assert counts.frames == counts.paired + counts.frames_waiting + lost
        lost = sum(counts.samples_lost.values())
        assert counts.samples == counts.samples_used + counts.samples_waiting + lost
        if message is None:
            young = [i for i, at in since_s.items() if now_s - at < WAIT_S]
            assert counts.frames_waiting <= len(young)
    assert len(done) == len(set(done)) == pairing.counts().paired


@given(st.lists(st.integers(0, 60)), st.integers(1, 6))
def test_an_index_set_forgets_gaps_never_members(numbers, most):
    few, whole = IndexSet(most), IndexSet()
    for number in numbers:
        few.add(number)
        whole.add(number)
        assert few.runs <= most
    assert all(number in few for number in numbers)
    assert [n for n in range(-1, 62) if n in whole] == sorted(set(numbers))
