import time

import pytest

from ptystream.config import load
from ptystream.ingest.scans import Event, ScanClosed
from ptystream.service.intake import Intake
from tests.service.test_backlog import indices
from tests.system.beam import Beam


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
