"""Two streams without a common uid; each keeps its own order, nothing else is sure."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptystream.ingest.scans import (
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

LIMITS = TrackerLimits(idle_s=30, grace_s=3, frame_wait_s=5)
N = 4


def frames(name: str, n: int = N, first: int = 0) -> list[Message]:
    return [Frame(name, first + i, np.full((2, 2), i, "u1")) for i in range(n)]


def rows(name: str, tag: float, n: int = N, first: int = 0) -> list[Message]:
    """Samples of a position series; the tag in x tells it from another."""
    return [
        Samples(name, first + i, 1, np.array([[first + i, tag]], float))
        for i in range(n)
    ]


def detector(name: str, n: int = N) -> list[Message]:
    start = ScanStart(name, "det", (2, 2), frames_expected=n)
    return [start, *frames(name, n), ScanEnd(name, "det", "complete", n)]


def encoder(name: str, tag: float, n: int = N) -> list[Message]:
    end = ScanEnd(name, "pos", "complete", n)
    return [ScanStart(name, "pos"), *rows(name, tag, n), end]


def tracker(limits: TrackerLimits = LIMITS) -> ScanTracker:
    return ScanTracker(limits, named=False)


def feed(
    tracker: ScanTracker, messages: list[Any], now_s: float = 0.0, rate_s: float = 0.0
) -> list[Event]:
    events: list[Event] = []
    for place, message in enumerate(messages):
        events += tracker.feed(message, now_s + place * rate_s)
    return events


def tags(events: list[Event]) -> dict[str, set[float]]:
    """Which position series each scan's exposures got their places from."""
    found: dict[str, set[float]] = {}
    for event in events:
        if isinstance(event, Exposure):
            found.setdefault(event.frame.scan, set()).add(event.mean_m[1])
    return found


def exposed(events: list[Event], scan: str) -> list[int]:
    found = [e.frame for e in events if isinstance(e, Exposure)]
    return sorted(f.index for f in found if f.scan == scan)


def closings(events: list[Event]) -> list[ScanClosed]:
    return [e for e in events if isinstance(e, ScanClosed)]


def interleaved(coin: list[bool], det: list[Message], pos: list[Message]):
    streams = [list(det), list(pos)]
    for side in coin:
        stream = streams[side] or streams[not side]
        if stream:
            yield stream.pop(0)
    yield from streams[0] + streams[1]


COINS = st.lists(st.booleans(), min_size=30, max_size=30)


@given(COINS)
def test_two_scans_back_to_back_are_never_mixed_whichever_stream_is_ahead(coin):
    det = detector("series-1") + detector("series-2")
    pos = encoder("arm-1", 1.0) + encoder("arm-2", 2.0)
    t = tracker()
    events = feed(t, list(interleaved(coin, det, pos)))
    assert tags(events) == {"series-1": {1.0}, "series-2": {2.0}}
    for scan in ("series-1", "series-2"):
        assert exposed(events, scan) == list(range(N))
    assert [c.scan for c in closings(events)] == ["series-1", "series-2"]
    assert [c.reason for c in closings(events)] == ["complete"] * 2
    assert t.strays().orphan_samples == 0


@given(COINS, st.sets(st.integers(0, 11)), st.sets(st.integers(0, 11)))
def test_whatever_is_lost_within_a_scan_costs_only_itself(coin, no_frame, no_row):
    """Data of either stream may be lost, but for each series' first."""
    det = detector("series-1") + detector("series-2")
    pos = encoder("arm-1", 1.0) + encoder("arm-2", 2.0)
    keep = {0, 1, 6, 7}  # starts and first data; 5 and 11 are the ends
    lost_det, lost_pos = no_frame - keep - {5, 11}, no_row - keep - {5, 11}
    det = [m for i, m in enumerate(det) if i not in lost_det]
    pos = [m for i, m in enumerate(pos) if i not in lost_pos]
    t = tracker()
    events = feed(t, list(interleaved(coin, det, pos)))
    events += t.tick(LIMITS.grace_s + 1) + t.tick(2 * LIMITS.grace_s + 2)
    events += t.stop()
    for k, scan in enumerate(("series-1", "series-2")):
        there = {i for i in range(N) if not {6 * k + i + 1} & (lost_det | lost_pos)}
        assert exposed(events, scan) == sorted(there)
    assert tags(events) == {"series-1": {1.0}, "series-2": {2.0}}


@pytest.mark.parametrize("armed_first", [True, False])
def test_positions_may_be_armed_before_or_after_the_detector(armed_first):
    det, pos = detector("series-7"), encoder("arm", 1.0)
    starts = [pos[0], det[0]] if armed_first else [det[0], pos[0]]
    t = tracker()
    events = feed(t, starts, 0) + feed(t, det[1:-1] + pos[1:] + det[-1:], 60)
    assert exposed(events, "series-7") == list(range(N))


def test_an_arm_that_comes_late_still_finds_its_frames():
    t = tracker()
    det = detector("series-7", 40)
    events = feed(t, det[:30], 0, rate_s=0.1)
    events += feed(t, [*encoder("arm", 1.0, 40), *det[30:]], 3)
    assert exposed(events, "series-7") == list(range(40))


def test_what_the_last_positions_left_behind_is_not_taken_for_the_next():
    """Joined while the last packets of a scan come in; the next is seen whole."""
    t = tracker()
    leftover = rows("arm-1", 1.0, first=900)
    events = feed(t, [*leftover, ScanEnd("arm-1", "pos", "complete", 904)], 0)
    events += feed(t, [*detector("series-2")[:-1]], 0.5)
    events += feed(t, encoder("arm-2", 2.0), 0.9)
    assert tags(events) == {"series-2": {2.0}}
    assert exposed(events, "series-2") == list(range(N))


def test_leftovers_without_an_end_wait_and_never_pair():
    t = tracker()
    events = feed(t, rows("arm-1", 1.0, first=900), 0)
    events += feed(t, detector("series-2")[:-1], 0.5)
    events += feed(t, encoder("arm-2", 2.0), 0.9)
    assert tags(events) == {"series-2": {2.0}}


def test_positions_whose_beginning_was_lost_are_joined_because_they_go_on():
    t = tracker()
    events = feed(t, detector("series-2", 8)[:-1], 0)
    events += feed(t, rows("arm", 1.0, n=5, first=3), 0.4)
    assert exposed(events, "series-2") == [3, 4, 5, 6, 7]


def test_joined_mid_scan_on_both_streams():
    t = tracker()
    start = ScanStart("series-3", "det", (2, 2), again=True)
    events = feed(t, rows("arm", 1.0, first=98), 0)
    events += feed(t, [start, *frames("series-3", first=100)], 0.1)
    assert exposed(events, "series-3") == [100, 101]
    assert isinstance(events[0], ScanOpened)
    assert events[0].joined_late


def test_positions_of_a_scan_without_this_detector_are_not_joined_to_the_next():
    """The box is armed for every scan, the detector for some."""
    t = tracker()
    events = feed(t, encoder("arm-1", 1.0), 0)
    events += feed(t, detector("series-1")[:1], 1.0)
    events += feed(t, encoder("arm-2", 2.0)[:1], 1.5)
    events += feed(t, detector("series-1")[1:], 2.0)
    events += feed(t, encoder("arm-2", 2.0)[1:], 2.4)
    assert tags(events) == {"series-1": {2.0}}


def test_frames_of_an_exposure_without_positions_leave_the_next_ones_alone():
    t = tracker()
    events = feed(t, detector("dark"), 0) + t.tick(8)
    events += feed(t, detector("series-2")[:-1], 10)
    events += feed(t, encoder("arm", 1.0), 10.4)
    assert tags(events) == {"series-2": {1.0}}
    assert closings(events)[0].counts.join.frames_lost["no_position"] == N


def test_an_arm_without_samples_takes_nobody_away():
    t = tracker()
    armed = [ScanStart("arm-1", "pos"), ScanEnd("arm-1", "pos", "aborted", 0)]
    events = feed(t, [*armed, *detector("series-1")[:-1], *encoder("arm-2", 2.0)])
    assert tags(events) == {"series-1": {2.0}}


def test_a_series_without_frames_takes_nobody_away():
    t = tracker()
    events = feed(t, [detector("series-1")[0], ScanStart("arm", "pos")])
    events += feed(t, [*detector("series-2"), *encoder("arm", 1.0)[1:]])
    assert tags(events) == {"series-2": {1.0}}


def test_both_streams_restarted_mid_scan():
    t = tracker()
    events = feed(t, detector("series-1", 9)[:3] + encoder("arm-1", 1.0)[:3])
    events += feed(t, detector("series-2") + encoder("arm-2", 2.0), 1)
    assert tags(events) == {"series-1": {1.0}, "series-2": {2.0}}
    assert [c.reason for c in closings(events)] == ["superseded", "complete"]


def test_a_name_that_comes_again_is_another_scan():
    """A detector that counts from 1 at each start, a box without names."""
    t = tracker()
    events: list[Event] = []
    for tag in (1.0, 2.0, 3.0):
        both = detector("series-1") + encoder("panda", tag)
        events += feed(t, both, tag * 10)
    assert tags(events) == {
        "series-1": {1.0},
        "series-1.2": {2.0},
        "series-1.3": {3.0},
    }
    assert len(closings(events)) == 3


@pytest.mark.parametrize("pause_s", [0.0, 2.0])
def test_numbers_that_begin_again_without_a_start_are_another_scan(pause_s):
    """A replay that sends neither header nor end: only the numbers tell."""
    t = tracker()
    start = ScanStart("series-1", "det", (2, 2), again=True)
    events = feed(t, [start, *frames("series-1"), *rows("panda", 1.0)])
    again = [*frames("series-1"), *rows("panda", 2.0)]
    events += feed(t, again, pause_s)
    if pause_s:
        events += t.tick(pause_s + LIMITS.grace_s)
        assert tags(events) == {"series-1": {1.0}, "series-1.2": {2.0}}
    else:  # repeated messages look the same, but for the pause
        assert tags(events) == {"series-1": {1.0}}
        counts = t.counts()
        assert counts is not None
        assert counts.join.frames_lost["duplicate"] == N


def test_equal_names_belong_together_at_any_distance():
    t = tracker()
    events = feed(t, detector("uid-1")[:-1], 0)
    events += feed(t, encoder("uid-1", 1.0)[:1], 100)
    assert t.scan == "uid-1"
    events += feed(t, encoder("uid-1", 1.0)[1:], 100)
    assert exposed(events, "uid-1") == list(range(N))


def test_positions_that_never_stop_are_bounded_and_counted():
    t = tracker(TrackerLimits(pending_sample_messages=10, max_samples=16))
    feed(t, [ScanStart("free", "pos")])
    feed(t, rows("free", 1.0, n=100), 0, rate_s=0.01)
    assert t.strays().orphan_samples == 90
    events = feed(t, detector("series-1"), 50)
    assert tags(events) == {}


def test_positions_that_nobody_wants_are_forgotten_after_four_others():
    t = tracker()
    for number in range(6):
        feed(t, encoder(f"arm-{number}", 0.0), 100.0 * number)
    assert t.strays().orphan_samples == 2 * N


def test_heartbeats_and_ends_of_what_was_never_seen_are_nothing():
    t = tracker()
    assert feed(t, [Heartbeat("x", "det"), Heartbeat("y", "pos")]) == []
    ends = [ScanEnd("x", "det", "complete"), ScanEnd("y", "pos", "error")]
    assert feed(t, ends) == []
    assert t.scan is None
    assert t.stop() == []


def test_heartbeats_keep_a_scan_open_by_its_own_name():
    t = tracker(replace(LIMITS, idle_s=10))
    feed(t, detector("series-1")[:3], 0)
    feed(t, [Heartbeat("series-1", "det")], 9)
    assert t.tick(18) == []
    assert len(closings(t.tick(19.5))) == 1
