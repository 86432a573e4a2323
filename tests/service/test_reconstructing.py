"""The engine's thread between a backlog and sinks that note what they are told."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace

import numpy as np
import pytest

from ptystream.config import Config
from ptystream.ingest.pairing import Pairing
from ptystream.ingest.scans import Event, ScanClosed, ScanCounts, ScanOpened
from ptystream.publish.runner import SinkThread
from ptystream.publish.sink import FrameCounts, RunEnd, RunInfo
from ptystream.recon.snapshot import Snapshot
from ptystream.service.backlog import Backlog
from ptystream.service.engine_state import Finished
from ptystream.service.reconstructing import KEPT, Reconstructing
from ptystream.service.scan import Extras
from tests.recon.small_scan import SmallScan
from tests.service.exposures import START, config, exposures

EXTRAS = Extras(probe=SmallScan().probe[None])


class Notes:
    """A sink that keeps what it is told."""

    name = "notes"

    def __init__(self) -> None:
        self.starts: list[RunInfo] = []
        self.updates: list[tuple[Snapshot, FrameCounts]] = []
        self.stops: list[tuple[Snapshot | None, FrameCounts, RunEnd]] = []

    def start(self, info: RunInfo) -> None:
        self.starts.append(info)

    def update(self, snapshot: Snapshot, frames: FrameCounts) -> None:
        self.updates.append((snapshot, frames))

    def stop(self, snapshot: Snapshot | None, frames: FrameCounts, end: RunEnd) -> None:
        self.stops.append((snapshot, frames, end))

    def close(self) -> None:
        return


class Bench:
    """An engine's thread with all around it."""

    def __init__(self, stack: ExitStack, told: Config, extras: Extras) -> None:
        self.backlog, self.notes = Backlog(10_000), Notes()
        self.sink = stack.enter_context(SinkThread(self.notes))
        self.known: dict[str, FrameCounts] = {}
        self.engine = Reconstructing(
            told, self.backlog, [self.sink], self._frames, extras=extras
        )
        stack.callback(lambda: self.engine.finish(20))
        self.engine.start()

    def _frames(self, scan: str, counts: ScanCounts | None) -> FrameCounts | None:
        if counts is not None:
            return FrameCounts(counts.frames_expected, 36, 36)
        return self.known.get(scan)

    def ended(self, count: int = 1) -> list[Finished]:
        """Return the next scans that end."""
        got: list[Finished] = []

        def enough() -> bool:
            got.extend(self.engine.take_finished())
            return len(got) >= count

        self.until(enough)
        return got

    def until(self, met: Callable[[], bool]) -> None:
        deadline_s = time.monotonic() + 30
        while not met():
            assert self.engine.error is None, self.engine.error
            assert time.monotonic() < deadline_s, self.engine.state
            time.sleep(0.005)


@pytest.fixture
def bench() -> Iterator[Callable[..., Bench]]:
    with ExitStack() as stack:
        yield lambda *flags, extras=EXTRAS: Bench(
            stack, config("publish.every_s=0.05", *flags), extras
        )


def opened(scan: str = "scan-1", **changes: object) -> ScanOpened:
    start = replace(START, scan=scan, **changes)
    return ScanOpened(start, None, joined_late=False, early_frames=0)


def closed(scan: str = "scan-1", reason: str = "complete") -> ScanClosed:
    return ScanClosed(scan, reason, ScanCounts(36, 0, Pairing().counts()))


def whole(scan: str = "scan-1") -> list[Event]:
    return [opened(scan), *exposures(scan), closed(scan)]


def test_a_scan_from_opening_to_sinks(bench):
    b = bench()
    b.backlog.put([opened(), *exposures()])
    b.until(lambda: bool(b.notes.updates))  # on a busy machine the end overtakes them
    b.backlog.put([closed()])
    (end,) = b.ended()
    assert (end.info.scan, end.end.reason, end.kept) == ("scan-1", "complete", True)
    assert end.frames.paired == 36
    assert end.frames.lost == {"far": 0, "dark": 0}
    b.until(lambda: bool(b.notes.stops))
    assert [info.run for info in b.notes.starts] == [end.info.run]
    snapshot, frames, told = b.notes.stops[0]
    assert snapshot is not None
    assert (frames, told) == (end.frames, end.end)
    assert b.engine.state.phase == "idle"
    assert b.engine.state.finished_scans == 1
    assert b.engine.state.frames == end.frames
    steps, lags = b.engine.take_timings()
    assert len(lags) == 36
    assert 0 < len(steps) <= KEPT
    assert b.engine.take_timings() == ([], [])


def test_a_scan_joined_late_says_so_while_it_runs(bench):
    b = bench()
    b.backlog.put([replace(opened(), joined_late=True), *exposures("scan-1")])
    b.until(lambda: b.engine.state.steps > 0)
    assert b.engine.state.detail.startswith("joined late")


def test_counts_do_not_fall_back_while_intake_is_at_the_next_scan(bench):
    b = bench()
    b.known["scan-1"] = FrameCounts(36, 36, 36)
    b.backlog.put(whole()[:-1])
    b.until(lambda: b.engine.state.frames.received == 36)
    del b.known["scan-1"]
    steps = b.engine.state.steps
    b.until(lambda: b.engine.state.steps > steps)
    assert b.engine.state.frames.received == 36


def test_the_next_scan_ends_the_refinement_of_the_last(bench):
    b = bench("refine.max_s=60", "refine.patience_s=60")
    b.backlog.put([*whole("a"), *whole("b")[:-1]])
    (first,) = b.ended()
    assert (first.info.scan, first.end.reason) == ("a", "complete")
    assert first.end.refined == "the next scan began"
    b.until(lambda: b.engine.state.scan == "b" and b.engine.state.steps > 0)


def test_a_cut_ends_the_run_it_was_meant_for_and_no_other(bench):
    b = bench()
    b.engine.cut("nothing is there")
    b.backlog.put(whole()[:-1])
    b.until(lambda: b.engine.state.steps > 0)
    b.engine.cut("stopped by request")
    (end,) = b.ended()
    assert (end.end.reason, end.end.refined) == ("aborted", "stopped by request")
    b.backlog.put([*exposures()[:3], closed()])  # the rest of it comes all the same
    b.backlog.put(whole("next"))
    (end,) = b.ended()
    assert (end.info.scan, end.end.reason) == ("next", "complete")
    assert b.engine.state.ignored == 3


def test_held_it_takes_in_but_does_not_step(bench):
    b = bench()
    b.engine.hold(held=True)
    b.backlog.put(whole())
    b.until(lambda: b.engine.state.phase == "refining")
    assert (b.engine.held, b.engine.state.steps) == (True, 0)
    b.engine.hold(held=False)
    (end,) = b.ended()
    assert end.kept


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"geometry": None}, "wavelength_m"), ({"shape": (24, 26)}, "square and even")],
)
def test_a_scan_that_cannot_be_used_is_told_and_the_next_is_served(
    bench, changes, said
):
    b = bench()
    b.backlog.put([opened("bad", **changes), *exposures("bad"), closed("bad")])
    (end,) = b.ended()
    assert (end.info.scan, end.end.reason, end.kept) == ("bad", "error", False)
    assert said in end.end.refined
    b.until(lambda: said in b.engine.state.detail)
    b.backlog.put(whole())
    (end,) = b.ended()
    assert end.kept
    assert b.engine.state.detail == ""
    assert b.engine.state.ignored == 36


def test_a_scan_that_fails_on_its_way_is_given_up_and_the_next_is_served(bench):
    b = bench(extras=Extras(given_probe=np.zeros((1, 24, 24))))
    b.backlog.put(whole("bad"))
    (end,) = b.ended()
    assert (end.end.reason, end.kept) == ("error", False)
    assert "dark" in end.end.refined
    b.backlog.put(whole("bad again"))
    assert b.ended()[0].info.scan == "bad again"
    assert b.engine.alive()


def test_told_to_finish_it_keeps_the_open_scan(bench):
    b = bench()
    b.backlog.put(whole()[:-1])
    b.until(lambda: b.engine.state.steps > 3)
    b.engine.finish(20)
    assert not b.engine.alive()
    (end,) = b.engine.take_finished()
    assert (end.end.reason, end.end.refined) == ("aborted", "the service was stopped")
    assert end.kept


def test_an_error_that_is_none_of_ours_ends_the_thread_and_is_kept(bench):
    b = bench()
    b.backlog.put([opened()])
    first = exposures()[0]
    b.backlog.put([replace(first, frame=replace(first.frame, counts=None))])
    deadline_s = time.monotonic() + 10
    while b.engine.alive():
        assert time.monotonic() < deadline_s
        time.sleep(0.005)
    assert isinstance(b.engine.error, AttributeError)
