from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptystream.ingest.scans import (
    CLOSE_REASONS,
    Event,
    ScanClosed,
    ScanOpened,
    ScanTracker,
    TrackerLimits,
)
from ptystream.wire.messages import (
    Exposure,
    Frame,
    Heartbeat,
    Message,
    Samples,
    ScanEnd,
    ScanStart,
)

PER_FRAME = 2


def frame(scan: str, index: int, size: int = 2) -> Frame:
    return Frame(scan, index, np.zeros((size, size), "u1"))


def samples(scan: str, first: int, n: int) -> Samples:
    rows = np.arange(first, first + n, dtype=float)
    return Samples(
        scan, first * PER_FRAME, PER_FRAME, np.repeat(rows, 2)[:, None] + [0, 1]
    )


def detector(scan: str, n: int) -> list[Message]:
    start = ScanStart(scan, "det", (2, 2), frames_expected=n)
    return [
        start,
        *(frame(scan, i) for i in range(n)),
        ScanEnd(scan, "det", "complete", n),
    ]


def encoder(scan: str, n: int, batch: int = 2) -> list[Message]:
    batches = [samples(scan, i, min(batch, n - i)) for i in range(0, n, batch)]
    end = ScanEnd(scan, "pos", "complete", n * PER_FRAME)
    return [ScanStart(scan, "pos"), *batches, end]


def feed(tracker: ScanTracker, messages: list[Any], now_s: float = 0.0) -> list[Event]:
    return [event for m in messages for event in tracker.feed(m, now_s)]


def kinds(events: list[Event]) -> list[str]:
    """Events as short words; exposures without their order."""
    words = {ScanOpened: "open", Exposure: "exposure", ScanClosed: "close"}
    names = [words[type(e)] for e in events]
    return [n for i, n in enumerate(names) if n != "exposure" or names[i - 1] != n]


def exposed(events: list[Event], scan: str) -> list[int]:
    found = [e.frame for e in events if isinstance(e, Exposure)]
    return [f.index for f in found if f.scan == scan]


def closings(events: list[Event]) -> list[ScanClosed]:
    return [e for e in events if isinstance(e, ScanClosed)]


def assert_sums(closed: ScanClosed) -> None:
    join = closed.counts.join
    assert join.frames == join.paired + sum(join.frames_lost.values())
    assert join.samples == join.samples_used + sum(join.samples_lost.values())
    assert join.frames_waiting == join.samples_waiting == 0


@given(
    st.integers(0, 6).flatmap(
        lambda n: st.permutations(detector("a", n) + encoder("a", n))
    )
)
def test_any_arrival_order_exposes_every_frame_once_and_closes_at_once(messages):
    n = sum(isinstance(m, Frame) for m in messages)
    tracker = ScanTracker()
    events = feed(tracker, messages)
    assert kinds(events)[0] == "open"
    assert sorted(exposed(events, "a")) == list(range(n))
    (closed,) = closings(events)
    assert events[-1] is closed
    assert closed.reason == "complete"
    assert (closed.counts.frames_expected, closed.counts.frames_missing) == (n, 0)
    assert_sums(closed)
    assert tracker.scan is None


@st.composite
def lossy(draw):
    n = draw(st.integers(1, 6))
    messages = detector("a", n)[1:] + encoder("a", n)
    twice = draw(st.lists(st.sampled_from(messages), max_size=3))
    lost = draw(st.sets(st.integers(0, len(messages) - 1)))
    kept = [m for i, m in enumerate(messages) if i not in lost]
    return [detector("a", n)[0], *draw(st.permutations(kept + twice))]


@given(lossy())
def test_whatever_is_lost_the_scan_closes_and_the_losses_add_up(messages):
    limits = TrackerLimits()
    tracker = ScanTracker(limits)
    events = feed(tracker, messages)
    events += tracker.tick(limits.idle_s + 1)
    (closed,) = closings(events)
    assert_sums(closed)
    received = sum(isinstance(m, Frame) for m in messages)
    strays = tracker.strays()
    outside = strays.leftover_frames + strays.orphan_frames
    assert closed.counts.join.frames + outside == received
    assert len(exposed(events, "a")) == len(set(exposed(events, "a")))
    ends = {m.stream for m in messages if isinstance(m, ScanEnd)}
    if ends != {"pos"}:
        assert closed.reason == ("complete" if ends else "timed out")


@given(st.lists(st.booleans(), min_size=40, max_size=40))
def test_scans_back_to_back_are_never_mixed(coin):
    """Each stream keeps its order; which of the two is ahead is anybody's guess."""
    streams = [[m for s in "abc" for m in make(s, 3)] for make in (detector, encoder)]
    tracker = ScanTracker()
    events: list[Event] = []
    for side in coin:
        stream = streams[side] or streams[not side]
        events += feed(tracker, [stream.pop(0)] if stream else [])
    assert not streams[0]
    assert not streams[1]
    assert (
        kinds([e for e in events if not isinstance(e, Exposure)])
        == ["open", "close"] * 3
    )
    assert [c.scan for c in closings(events)] == ["a", "b", "c"]
    for scan in "abc":
        assert sorted(exposed(events, scan)) == [0, 1, 2]
    opened = ""
    for event in events:
        if isinstance(event, ScanOpened):
            opened = event.start.scan
        elif isinstance(event, Exposure):
            assert event.frame.scan == opened


def test_frames_before_a_repeated_start_are_kept_and_called_late():
    tracker = ScanTracker()
    assert feed(tracker, [frame("a", 5), samples("a", 5, 1), frame("a", 6)]) == []
    events = feed(tracker, [ScanStart("a", "det", (2, 2), again=True)])
    opened = events[0]
    assert isinstance(opened, ScanOpened)
    assert (opened.joined_late, opened.early_frames) == (True, 2)
    assert exposed(events, "a") == [5]
    assert tracker.scan == "a"


def test_what_waits_for_a_start_is_bounded():
    limits = TrackerLimits(pending_frames=3, pending_sample_messages=2)
    tracker = ScanTracker(limits)
    feed(tracker, [frame("a", i) for i in range(5)])
    feed(tracker, [samples("a", i, 1) for i in range(5)])
    events = feed(tracker, detector("a", 0)[:1])
    assert exposed(events, "a") == [3, 4]
    counts = tracker.counts()
    assert counts is not None
    assert counts.join.frames_lost["before_start"] == 2
    assert counts.join.samples_lost["before_start"] == 3 * PER_FRAME


def test_scans_that_never_start_are_bounded_and_forgotten():
    tracker = ScanTracker(TrackerLimits(pending_scans=2, idle_s=10))
    feed(tracker, [frame(s, 0) for s in "abcd"])
    feed(tracker, [samples("d", 0, 1)])
    assert tracker.strays().orphan_frames == 2
    tracker.tick(11)
    strays = tracker.strays()
    assert (strays.orphan_frames, strays.orphan_samples) == (4, PER_FRAME)


def test_a_scan_that_can_start_is_not_forgotten_for_one_that_cannot():
    tracker = ScanTracker(TrackerLimits(pending_scans=2))
    feed(tracker, [*detector("a", 2)[:2], ScanStart("b", "det")])
    feed(tracker, [samples(s, 0, 1) for s in "cdef"])
    events = tracker.tick(100)
    assert [e.start.scan for e in events if isinstance(e, ScanOpened)] == ["b"]


@pytest.mark.parametrize("reason", ["complete", "aborted", "overrun", "error"])
def test_the_detector_says_why(reason):
    tracker = ScanTracker()
    feed(tracker, [*detector("a", 2)[:-1], *encoder("a", 2)])
    (closed,) = closings(feed(tracker, [ScanEnd("a", "det", reason, 2)]))
    assert closed.reason == reason
    assert closed.reason in CLOSE_REASONS


def test_late_positions_have_their_grace():
    tracker = ScanTracker(TrackerLimits(grace_s=3, frame_wait_s=99))
    feed(tracker, [*detector("a", 4), ScanStart("a", "pos")], now_s=10)
    assert tracker.tick(12) == []
    assert exposed(feed(tracker, [samples("a", 0, 2)], now_s=12.5), "a") == [0, 1]
    assert tracker.tick(15) == []
    (closed,) = closings(tracker.tick(15.6))
    assert closed.counts.join.frames_lost["no_position"] == 2
    assert_sums(closed)


def test_grace_is_not_prolonged_by_what_helps_nobody():
    tracker = ScanTracker(TrackerLimits(grace_s=3))
    feed(tracker, detector("a", 4), now_s=10)
    feed(tracker, [samples("a", 100, 2), Heartbeat("a", "pos")], now_s=12.9)
    assert len(closings(tracker.tick(13.1))) == 1


def test_a_scan_without_an_end_times_out_but_not_while_its_heart_beats():
    tracker = ScanTracker(TrackerLimits(idle_s=10, frame_wait_s=99))
    feed(tracker, detector("a", 2)[:-1], now_s=0)
    feed(tracker, [Heartbeat("a", "det"), Heartbeat("other", "det")], now_s=9)
    feed(tracker, [Heartbeat("other", "det")], now_s=18)
    assert tracker.tick(18.5) == []
    (closed,) = closings(tracker.tick(19.5))
    assert closed.reason == "timed out"
    assert closed.counts.frames_expected == 2


def test_positions_that_ended_and_are_used_up_end_a_scan_whose_own_end_got_lost():
    tracker = ScanTracker(TrackerLimits(idle_s=100, grace_s=3))
    feed(tracker, [*detector("a", 3)[:-1], *encoder("a", 3)], now_s=10)
    assert tracker.tick(12.9) == []
    (closed,) = closings(tracker.tick(13.1))
    assert closed.reason == "complete"
    assert closed.counts.join.paired == 3


def test_positions_that_wait_for_frames_do_not_end_a_scan():
    tracker = ScanTracker(TrackerLimits(idle_s=100, grace_s=3))
    feed(tracker, [*detector("a", 3)[:-2], *encoder("a", 3)], now_s=10)
    assert tracker.tick(14) == []
    assert closings(tracker.tick(111))[0].reason == "timed out"


def test_positions_that_never_stop_do_not_keep_a_dead_scan_open():
    tracker = ScanTracker(TrackerLimits(idle_s=10, frame_wait_s=1, max_samples=8))
    feed(tracker, detector("a", 2)[:-1], now_s=0)
    events: list[Event] = []
    for second in range(60):
        events += feed(tracker, [samples("a", second, 1)], now_s=second)
        events += tracker.tick(second)
    (closed,) = closings(events)
    assert closed.reason == "timed out"
    assert_sums(closed)
    assert tracker.strays().leftover_samples == 10 * PER_FRAME


def test_missing_frames_are_told_from_lost_ones():
    tracker = ScanTracker(TrackerLimits(grace_s=1))
    messages = [*detector("a", 4), *encoder("a", 4)]
    del messages[2]
    feed(tracker, messages)
    (closed,) = closings(tracker.tick(2))
    assert closed.counts.frames_missing == 1
    assert closed.counts.join.paired == 3


def test_a_new_start_ends_an_unfinished_scan():
    tracker = ScanTracker()
    feed(tracker, [*detector("a", 3)[:-1], *encoder("a", 3)])
    events = feed(tracker, detector("b", 1))
    assert kinds(events) == ["close", "open"]
    assert closings(events)[0].reason == "superseded"


def test_a_new_scan_waits_for_the_late_positions_of_the_last():
    tracker = ScanTracker()
    feed(tracker, detector("a", 3))
    assert feed(tracker, detector("b", 2)[:2]) == []
    events = feed(tracker, encoder("a", 3))
    assert kinds(events) == ["exposure", "close", "open"]
    assert exposed(feed(tracker, encoder("b", 2)), "b") == [0]


def test_a_new_scan_does_not_wait_for_ever():
    tracker = ScanTracker(TrackerLimits(grace_s=3))
    feed(tracker, detector("a", 3)[:-1])
    assert feed(tracker, detector("b", 2)[:1], now_s=1) == []
    assert tracker.tick(3.9) == []
    assert kinds(tracker.tick(4.1)) == ["close", "open"]


def test_a_new_scan_does_not_lose_frames_to_the_grace_of_the_last():
    tracker = ScanTracker(TrackerLimits(pending_frames=3))
    feed(tracker, detector("a", 1))
    events = feed(tracker, detector("b", 5)[:-1])
    assert kinds(events) == ["close", "open"]
    assert len(exposed(feed(tracker, encoder("b", 5)), "b")) == 5


def test_leftovers_of_a_closed_scan_are_counted():
    tracker = ScanTracker()
    feed(tracker, detector("a", 2) + encoder("a", 2))
    again = ScanStart("a", "det", again=True)
    assert feed(tracker, [again, frame("a", 9), samples("a", 9, 3)]) == []
    strays = tracker.strays()
    assert (strays.leftover_frames, strays.leftover_samples) == (1, 3 * PER_FRAME)


@pytest.mark.parametrize("first", [detector, encoder])
def test_a_replayed_scan_opens_again(first):
    tracker = ScanTracker()
    second = encoder if first is detector else detector
    for _ in range(2):
        events = feed(tracker, first("a", 2) + second("a", 2))
        assert exposed(events, "a") == [0, 1]
        assert len(closings(events)) == 1


def test_positions_that_come_too_late_do_not_revive_their_scan():
    tracker = ScanTracker()
    assert kinds(feed(tracker, detector("a", 0))) == ["open", "close"]
    again = ScanStart("a", "det", again=True)
    assert feed(tracker, [*encoder("a", 2), again]) == []
    tracker.tick(100)
    assert tracker.strays().orphan_samples == 2 * PER_FRAME


def test_frames_of_another_shape_are_refused():
    tracker = ScanTracker()
    feed(tracker, [detector("a", 2)[0], frame("a", 0, size=3), frame("a", 1)])
    counts = tracker.counts()
    assert counts is not None
    assert counts.join.frames_lost["wrong_shape"] == 1
    feed(tracker, [ScanEnd("a", "det", "complete", 2), *encoder("a", 2)])
    assert tracker.scan is None


def test_stopping_closes_what_is_open():
    tracker = ScanTracker()
    feed(tracker, [*detector("a", 2)[:-1], frame("b", 0)])
    (closed,) = tracker.stop()
    assert isinstance(closed, ScanClosed)
    assert_sums(closed)
    assert tracker.strays().orphan_frames == 1
    assert tracker.stop() == []


def test_closed_uids_are_bounded():
    tracker = ScanTracker(TrackerLimits(closed_scans=2))
    for scan in "abc":
        feed(tracker, encoder(scan, 1) + detector(scan, 1))
    feed(tracker, [frame("a", 0), frame("b", 0)])
    assert tracker.strays().leftover_frames == 1
