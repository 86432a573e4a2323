import dataclasses
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptystream.ingest.pairing import FRAME_LOSSES, SAMPLE_LOSSES, Pairing
from ptystream.wire.messages import Exposure, Frame, Samples


def frame(index: int) -> Frame:
    return Frame("s", index, np.full((2, 2), index % 250, "u1"))


def place(sample: int) -> tuple[float, float]:
    return sample * 1.0, sample * -2.0 + 5


def samples(first: int, n: int, per_frame: int) -> Samples:
    rows = np.array([place(first + k) for k in range(n)], float).reshape(n, 2)
    return Samples("s", first, per_frame, rows)


def give(pairing: Pairing, message: Any, now_s: float = 0.0) -> list[Exposure]:
    if isinstance(message, Frame):
        return pairing.add_frame(message, now_s)
    return pairing.add_samples(message)


def assert_sums(pairing: Pairing) -> None:
    counts = pairing.counts()
    assert set(counts.frames_lost) == set(FRAME_LOSSES)
    assert set(counts.samples_lost) == set(SAMPLE_LOSSES)
    lost = sum(counts.frames_lost.values())
    assert counts.frames == counts.paired + counts.frames_waiting + lost
    lost = sum(counts.samples_lost.values())
    assert counts.samples == counts.samples_used + counts.samples_waiting + lost


@st.composite
def arrivals(draw):
    """Frames and batches of a scan, in any order, some lost, some twice."""
    per_frame, n = draw(st.integers(1, 5)), draw(st.integers(1, 12))
    messages: list[Any] = [frame(i) for i in range(n)]
    cuts = draw(st.sets(st.integers(1, max(1, n * per_frame - 1)), max_size=6))
    edges = [0, *sorted(c for c in cuts if c < n * per_frame), n * per_frame]
    for a, b in pairwise(edges):
        messages.append(samples(a, b - a, per_frame))
    lost = draw(st.sets(st.integers(0, len(messages) - 1), max_size=3))
    kept = [m for i, m in enumerate(messages) if i not in lost]
    twice = draw(st.lists(st.sampled_from(kept), max_size=3)) if kept else []
    return per_frame, draw(st.permutations(kept + twice))


@given(arrivals(), st.integers(-3, 3))
def test_any_order_pairs_each_exposure_once_and_the_losses_add_up(case, lag):
    per_frame, messages = case
    pairing = Pairing(lag=lag)
    done = [e for m in messages for e in give(pairing, m)]
    assert_sums(pairing)
    whole = [e.frame.index for e in done]
    done += pairing.finish()
    assert_sums(pairing)
    counts = pairing.counts()
    assert counts.frames_waiting == counts.samples_waiting == 0

    got = {m.index for m in messages if isinstance(m, Frame)}
    have: dict[int, set[int]] = {}
    for m in messages:
        if isinstance(m, Samples):
            for s in range(m.first, m.first + len(m.position_m)):
                have.setdefault(s // per_frame - lag, set()).add(s)
    indices = [e.frame.index for e in done]
    assert len(indices) == len(set(indices)) == counts.paired
    assert set(indices) == got & set(have)
    complete = {i for i in have if len(have[i]) == per_frame}
    assert set(whole) == got & complete
    assert counts.partial == len(indices) - len(whole)
    for e in done:
        mean = np.mean([place(s) for s in have[e.frame.index]], axis=0)
        np.testing.assert_allclose(e.mean_m, mean)
        assert e.frame.counts[0, 0] == e.frame.index


def test_an_exposure_runs_from_its_first_sample_to_its_last():
    pairing = Pairing()
    pairing.add_frame(frame(3), 0)
    (exposure,) = pairing.add_samples(samples(30, 10, 10))
    assert (exposure.start_m, exposure.end_m) == (place(30), place(39))
    np.testing.assert_allclose(exposure.mean_m, np.mean([place(30), place(39)], axis=0))


def test_a_single_sample_reaches_half_way_to_its_neighbours():
    pairing = Pairing()
    for index in range(3):
        pairing.add_frame(frame(index), 0)
    done = pairing.add_samples(samples(0, 3, 1))
    ends = [(e.start_m, e.mean_m, e.end_m) for e in done]
    assert ends[1] == ((0.5, 4.0), (1.0, 3.0), (1.5, 2.0))
    assert ends[0] == ((-0.5, 6.0), (0.0, 5.0), (0.5, 4.0))


def told(first: int, n: int, per_frame: int) -> Samples:
    """Samples whose encoders say where each began and ended."""
    plain = samples(first, n, per_frame)
    return dataclasses.replace(
        plain, start_m=plain.position_m - 0.25, end_m=plain.position_m + 0.5
    )


@pytest.mark.parametrize("per_frame", [1, 4])
def test_start_and_end_are_the_encoders_own_where_they_tell(per_frame):
    pairing = Pairing()
    pairing.add_frame(frame(2), 0)
    first = 2 * per_frame
    (exposure,) = pairing.add_samples(told(first, per_frame, per_frame))
    last = first + per_frame - 1
    np.testing.assert_allclose(exposure.start_m, np.subtract(place(first), 0.25))
    np.testing.assert_allclose(exposure.end_m, np.add(place(last), 0.5))
    mean = np.mean([place(first), place(last)], axis=0)
    np.testing.assert_allclose(exposure.mean_m, mean)


def test_an_end_that_was_lost_is_told_by_what_came():
    pairing = Pairing()
    pairing.add_frame(frame(0), 0)
    pairing.add_samples(told(0, 1, 3))
    pairing.add_samples(samples(1, 1, 3))
    (exposure,) = pairing.finish()
    assert (exposure.start_m, exposure.end_m) == (place(0), place(1))


def test_the_lead_of_frames_over_samples_is_told():
    pairing = Pairing()
    assert pairing.counts().lead_frames == 0
    pairing.add_frame(frame(9), 0)
    assert pairing.counts().lead_frames == 0
    pairing.add_samples(samples(0, 10, 5))
    assert pairing.counts().lead_frames == 8
    pairing.add_samples(samples(60, 5, 5))
    assert pairing.counts().lead_frames == -3


def test_samples_are_used_up_when_each_has_found_its_frame():
    pairing = Pairing()
    assert not pairing.used_up
    pairing.add_samples(samples(0, 2, 1))
    pairing.add_frame(frame(0), 0)
    assert not pairing.used_up
    pairing.add_frame(frame(1), 0)
    assert pairing.used_up


def test_a_lonely_sample_is_a_point():
    pairing = Pairing()
    pairing.add_samples(samples(7, 1, 1))
    (exposure,) = pairing.add_frame(frame(7), 0)
    assert exposure.start_m == exposure.mean_m == exposure.end_m == place(7)


def test_a_line_turn_is_not_taken_for_motion_during_the_exposure():
    rows = np.array([[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]], float) * [1, 10]
    pairing = Pairing()
    for index in range(6):
        pairing.add_frame(frame(index), 0)
    rows[:, 1] *= np.array([1, 1, 1, -1, -1, -1])  # the turn is 30, a step 10
    rows[3:, 1] -= 20
    done = pairing.add_samples(Samples("s", 0, 1, rows))
    assert [e.end_m for e in done][2] == (0, 25)
    assert [e.start_m for e in done][3] == (1, -15)


def test_frames_wait_no_longer_than_told():
    pairing = Pairing(frame_wait_s=5)
    pairing.add_frame(frame(0), 10)
    pairing.add_frame(frame(1), 12)
    assert pairing.expire(14.9) == []
    assert pairing.counts().frames_waiting == 2
    pairing.expire(15.1)
    counts = pairing.counts()
    assert (counts.frames_waiting, counts.frames_lost["no_position"]) == (1, 1)
    assert pairing.add_samples(samples(0, 1, 1)) == []
    assert pairing.counts().samples_lost["late"] == 1
    assert len(pairing.add_samples(samples(1, 1, 1))) == 1
    assert_sums(pairing)


def test_a_frame_that_waited_too_long_takes_the_samples_that_came():
    pairing = Pairing(frame_wait_s=5)
    pairing.add_frame(frame(0), 0)
    pairing.add_samples(samples(0, 3, 10))
    (exposure,) = pairing.expire(6)
    assert exposure.end_m == place(2)
    assert pairing.counts().partial == 1
    assert_sums(pairing)


def test_the_oldest_frame_makes_room():
    pairing = Pairing(max_frames=3)
    for index in range(5):
        pairing.add_frame(frame(index), 0)
    assert pairing.counts().frames_lost["overflow"] == 2
    done = pairing.add_samples(samples(0, 5, 1))
    assert [e.frame.index for e in done] == [2, 3, 4]
    assert_sums(pairing)


def test_the_oldest_samples_make_room():
    pairing = Pairing(max_samples=20)
    pairing.add_samples(samples(0, 30, 10))
    assert pairing.counts().samples_lost["overflow"] == 10
    done = [e for i in range(3) for e in pairing.add_frame(frame(i), 0)]
    assert [e.frame.index for e in done] == [1, 2]
    done = pairing.finish()
    assert done == []
    assert pairing.counts().frames_lost["late"] == 1
    assert_sums(pairing)


def test_room_is_not_made_at_the_cost_of_a_frame_that_could_be_paired():
    pairing = Pairing(max_samples=2)
    pairing.add_frame(frame(0), 0)
    done = pairing.add_samples(samples(0, 10, 1))
    assert [e.frame.index for e in done] == [0]
    assert_sums(pairing)


def test_a_frame_after_its_samples_were_given_up_is_late():
    pairing = Pairing(max_samples=1)
    pairing.add_samples(samples(0, 2, 1))
    pairing.add_frame(frame(0), 0)
    assert pairing.counts().frames_lost["late"] == 1


def test_another_sampling_is_refused():
    pairing = Pairing()
    pairing.add_samples(samples(0, 10, 10))
    pairing.add_samples(samples(2, 3, 1))
    assert pairing.counts().samples_lost["mismatch"] == 3
    assert_sums(pairing)


def test_what_the_caller_drops_is_counted():
    pairing = Pairing()
    pairing.refuse_frame(frame(1), "wrong_shape")
    pairing.lose_frames(2, "before_start")
    pairing.lose_samples(5, "before_start")
    counts = pairing.counts()
    assert (counts.frames, counts.samples) == (3, 5)
    assert pairing.distinct_frames == 1
    assert_sums(pairing)


@pytest.mark.parametrize("index", [0, 5, (1 << 40) - 1])
def test_counts_are_frozen(index):
    pairing = Pairing()
    pairing.add_frame(frame(index), 0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        pairing.counts().frames = 3  # pyright: ignore


def test_a_monitor_is_averaged_over_its_exposure():
    pairing = Pairing()
    counts = np.zeros((2, 2), np.uint16)
    place = np.zeros((4, 2))
    pairing.add_frame(Frame("a", 0, counts), 0.0)
    pairing.add_frame(Frame("a", 1, counts), 0.0)
    monitor = np.array([1.0, 3.0, np.nan, np.nan])
    first, second = pairing.add_samples(Samples("a", 0, 2, place, monitor=monitor))
    assert first.monitor == 2.0
    assert np.isnan(second.monitor)
