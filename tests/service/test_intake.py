import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptystream.config import load
from ptystream.ingest.pairing import Pairing
from ptystream.ingest.scans import Event, ScanClosed, ScanCounts, ScanOpened
from ptystream.service.intake import REMEMBERED, Backlog, Intake
from ptystream.wire.messages import Exposure, ScanStart
from tests.service.exposures import exposure
from tests.system.beam import Beam

COUNTS = np.zeros((2, 2), "u1")


def opened(scan: str) -> ScanOpened:
    return ScanOpened(ScanStart(scan, "det"), None, joined_late=False, early_frames=0)


def closed(scan: str) -> ScanClosed:
    return ScanClosed(scan, "complete", ScanCounts(0, 0, Pairing().counts()))


def exposed(scan: str, count: int, first: int = 0) -> list[Event]:
    return [exposure(first + i, COUNTS, scan=scan) for i in range(count)]


def indices(events: list[Event]) -> list[int]:
    return [e.frame.index for e in events if isinstance(e, Exposure)]


def test_events_come_out_in_order_and_not_more_than_asked_for():
    backlog = Backlog(10)
    events = [opened("a"), *exposed("a", 5), closed("a")]
    backlog.put(events)
    assert backlog.take(3, 0) + backlog.take(10, 0) == events
    assert backlog.take(3, 0) == []


def test_the_oldest_exposure_is_dropped_and_counted():
    backlog = Backlog(3)
    backlog.put([opened("a"), *exposed("a", 5)])
    taken = backlog.take(10, 0)
    assert indices(taken) == [2, 3, 4]
    assert isinstance(taken[0], ScanOpened)
    assert backlog.dropped("a") == 2
    assert backlog.dropped("b") == 0


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
    assert indices(taken) == [3]
    assert [backlog.dropped(scan) for scan in "abc"] == [4, 4, 3]


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
    assert backlog.dropped(f"scan-{REMEMBERED + 3}") == 3


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6)), max_size=20),
    st.integers(1, 5),
)
def test_nothing_is_lost_but_what_is_counted(turns, capacity):
    backlog = Backlog(capacity)
    put, taken = 0, []
    for more, some in turns:
        backlog.put(exposed("a", more, put))
        put += more
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


def test_sockets_become_events_and_the_open_scan_is_closed_on_leaving():
    with Beam() as beam:
        endpoints = beam.endpoints
        config = load(
            environment={},
            flags=[
                f"detector.endpoint={endpoints['detector']}",
                f"positions.endpoint={endpoints['positions']}",
                "detector.ring_mib=32",
            ],
        )
        intake = Intake(config)
        with pytest.raises(RuntimeError, match="before"):
            intake.stats()
        with intake:
            assert intake.alive()
            beam.wait()
            scan = beam.start()
            beam.expose(scan, 0, 20)
            events: list[Event] = []
            deadline_s = time.monotonic() + 20
            while len(indices(events)) < 20:
                assert time.monotonic() < deadline_s
                events += intake.backlog.take(100, 0.1)
            stats = intake.stats()
            assert (stats.scan, stats.receiver_restarts) == (scan, 0)
            assert stats.counts is not None
            assert stats.counts.join.paired == 20
            waits = intake.take_waits()
            assert len(waits) == 20
            assert all(0 <= wait_s < 20 for wait_s in waits)
            intake.halt()
            (last,) = intake.backlog.take(10, 0)
            assert isinstance(last, ScanClosed)
            # Nobody said that it ended, and nobody waited for it: we cut it short.
            assert (last.scan, last.reason) == (scan, "aborted")
        assert not intake.alive()
    assert indices(events) == list(range(20))
