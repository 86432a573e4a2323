import threading
import time
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptystream.buffers.store import is_held_out
from ptystream.ingest.pairing import Pairing
from ptystream.ingest.scans import Event, ScanClosed, ScanCounts, ScanOpened
from ptystream.service.backlog import REMEMBERED, Backlog
from ptystream.wire.messages import Exposure, ScanStart
from tests.service.exposures import exposure

COUNTS = np.zeros((2, 2), "u1")


def opened(scan: str) -> ScanOpened:
    return ScanOpened(ScanStart(scan, "det"), None, joined_late=False, early_frames=0)


def closed(scan: str) -> ScanClosed:
    return ScanClosed(scan, "complete", ScanCounts(0, 0, Pairing().counts()))


def exposed(scan: str, count: int, first: int = 0) -> list[Event]:
    return [exposure(first + i, COUNTS, scan=scan) for i in range(count)]


def indices(events: list[Event]) -> list[int]:
    return [e.frame.index for e in events if isinstance(e, Exposure)]


def overloaded(capacity: int, times: int, turns: int = 60) -> tuple[Backlog, list[int]]:
    """Put ``times`` as many exposures as are taken; return what was taken."""
    backlog, taken, put = Backlog(capacity), [], 0
    at_once = capacity // 4
    for _ in range(turns):
        for _ in range(times):
            backlog.put(exposed("a", at_once, put))
            put += at_once
        taken += indices(backlog.take(at_once, 0))
    while some := indices(backlog.take(at_once, 0)):
        taken += some
    assert len(taken) + backlog.dropped("a") == put
    return backlog, taken


def test_events_come_out_in_order_and_not_more_than_asked_for():
    backlog = Backlog(10)
    events = [opened("a"), *exposed("a", 5), closed("a")]
    backlog.put(events)
    assert backlog.take(3, 0) + backlog.take(10, 0) == events
    assert backlog.take(3, 0) == []


@pytest.mark.parametrize("times", [2, 3, 6])
def test_more_than_is_taken_is_thinned_evenly(times):
    _, taken = overloaded(64, times)
    put = taken[-1]
    assert put / len(taken) < 1.1 * times
    assert max(b - a for a, b in pairwise(taken)) <= 4 * times
    eighths = np.histogram(taken, bins=8, range=(0, put + 1))[0]
    assert eighths.min() > 0.8 * eighths[1:].mean()


@pytest.mark.parametrize("columns", [32, 50, 60, 64, 100])
def test_no_column_of_a_raster_is_left_out(columns):
    """Every second frame would leave every second column out, or others with 8."""
    for times in (2, 4):
        _, taken = overloaded(256, times)
        seen = np.bincount(np.array(taken) % columns, minlength=columns)
        assert seen.min() > 0.4 * seen.mean(), times


def test_held_out_frames_are_thinned_like_the_others():
    _, taken = overloaded(256, 4, turns=200)
    held = np.mean([is_held_out(index, 0.05) for index in taken])
    assert 0.03 < held < 0.07


def test_no_more_is_dropped_than_must_be():
    backlog = Backlog(64)
    backlog.put(exposed("a", 70))
    assert backlog.dropped("a") == 6
    assert len(backlog.take(100, 0)) == 64


def test_what_it_does_is_told_while_it_does_it():
    backlog = Backlog(16)
    backlog.put(exposed("a", 16))
    assert not backlog.detail
    backlog.put(exposed("a", 16, 16))
    assert "faster than the engine" in backlog.detail
    backlog.take(8, 0)
    assert backlog.detail
    backlog.take(8, 0)
    assert not backlog.detail


def test_what_was_taken_makes_room():
    backlog = Backlog(3)
    for first in range(0, 30, 3):
        backlog.put(exposed("a", 3, first))
        assert indices(backlog.take(10, 0)) == [first, first + 1, first + 2]
    assert backlog.dropped("a") == 0


def test_openings_and_closings_are_never_dropped():
    backlog = Backlog(1)
    for scan in "abc":
        backlog.put([opened(scan), *exposed(scan, 4), closed(scan)])
    taken = backlog.take(100, 0)
    marks = [e for e in taken if not isinstance(e, Exposure)]
    assert len(marks) == 6
    assert len(indices(taken)) == 1
    assert sum(backlog.dropped(scan) for scan in "abc") == 11


def test_of_equal_lots_the_oldest_goes():
    backlog = Backlog(3)
    for scan in "abcdef":
        backlog.put(exposed(scan, 1))
    taken = backlog.take(10, 0)
    assert [e.frame.scan for e in taken if isinstance(e, Exposure)] == ["d", "e", "f"]


def test_what_is_remembered_of_what_was_taken_is_bounded():
    backlog = Backlog(4)
    for first in range(0, 4000, 4):
        backlog.put(exposed("a", 4, first))
        backlog.take(4, 0)
    assert len(backlog._lots) <= 16


def test_a_scan_that_opens_again_begins_at_none_dropped():
    backlog = Backlog(1)
    backlog.put([opened("a"), *exposed("a", 3)])
    assert backlog.dropped("a") == 2
    backlog.put([opened("a")])
    assert backlog.dropped("a") == 0


def test_the_memory_of_what_was_dropped_is_bounded():
    backlog = Backlog(1)
    for number in range(REMEMBERED + 5):
        backlog.put(exposed(f"scan-{number}", 3))
    assert backlog.dropped("scan-0") == 0
    assert backlog.dropped(f"scan-{REMEMBERED + 3}") >= 2


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 6)), max_size=20),
    st.integers(1, 12),
)
def test_nothing_is_lost_but_what_is_counted(turns, capacity):
    backlog = Backlog(capacity)
    put, taken = 0, []
    for more, some in turns:
        backlog.put(exposed("a", more, put))
        put += more
        assert backlog.fill() <= 1
        taken += indices(backlog.take(some, 0))
    taken += indices(backlog.take(100, 0))
    assert taken == sorted(taken)
    assert len(taken) + backlog.dropped("a") == put


def test_take_waits_for_the_first_event_and_no_longer():
    backlog = Backlog(3)
    began_s = time.monotonic()
    assert backlog.take(1, 0.05) == []
    assert time.monotonic() - began_s >= 0.04
    sender = threading.Timer(0.05, backlog.put, [exposed("a", 1)])
    sender.start()
    assert len(backlog.take(1, 10)) == 1
    assert time.monotonic() - began_s < 5
    sender.join()
