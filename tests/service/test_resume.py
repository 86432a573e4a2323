"""What the tape has of a scan: when its end waits for it, and what comes of that."""

import time
from dataclasses import replace
from pathlib import Path

import pytest

from ptystream.ingest.pairing import Pairing
from ptystream.ingest.scans import ScanClosed, ScanCounts, ScanOpened
from ptystream.publish.sink import FrameCounts
from ptystream.service.checkpoint import CheckpointSink
from ptystream.service.resume import Recovery
from ptystream.service.scan import ScanRun
from ptystream.wire.messages import Exposure, ScanStart
from tests.service.exposures import START, config, exposures
from tests.service.test_offline import scan_messages, tape_of

COUNTS = ScanCounts(10, 0, Pairing().counts())


@pytest.fixture
def tape(tmp_path) -> Path:
    return tape_of(tmp_path / "a.tape", *scan_messages("scan-1"))


@pytest.fixture
def recovery(tape, tmp_path):
    told = config(f"checkpoint.tape={tape}", "scan.idle_timeout_s=0.3")
    recovery = Recovery(told, CheckpointSink(tmp_path))
    recovery.opened(ScanRun(START, told, run="r"))
    yield recovery
    recovery.closed()


def closed(reason: str, counts: ScanCounts = COUNTS) -> ScanClosed:
    return ScanClosed("scan-1", reason, counts)  # type: ignore[arg-type]


def until_the_end(recovery: Recovery) -> tuple[list[int], ScanClosed]:
    """Return the indices that are new, and the end."""
    new: list[int] = []
    deadline_s = time.monotonic() + 20
    while time.monotonic() < deadline_s:
        for event in recovery.missed():
            if isinstance(event, ScanClosed):
                return new, event
            if recovery.is_new(event):
                new.append(event.frame.index)
    raise AssertionError(f"no end after {new}")


def given(recovery: Recovery, some: list[Exposure]) -> None:
    assert all(recovery.is_new(exposure) for exposure in some)


def test_a_scan_of_which_nothing_is_missing_ends_at_once(recovery):
    given(recovery, exposures()[:10])
    assert not recovery.holds_back(closed("complete"))
    assert recovery.missed() == []
    frames = FrameCounts(10, 10, 10, {"late": 1})
    assert recovery.counted(frames, ended=True) is frames


def test_what_is_missing_is_read_before_the_end(recovery):
    given(recovery, exposures()[2:7])
    assert recovery.holds_back(closed("complete"))
    new, end = until_the_end(recovery)
    assert (new, end.reason) == ([0, 1, 7, 8, 9], "complete")
    assert not recovery.holds_back(end)
    told = recovery.counted(FrameCounts(10, 5, 5, {"missing": 5}), ended=True)
    assert told == FrameCounts(10, 10, 10, {"missing": 0})


def test_an_end_that_never_came_is_on_the_tape(recovery):
    """All that was known of came, but the stream broke off."""
    given(recovery, exposures()[:8])
    known = replace(COUNTS, frames_expected=8)
    assert recovery.holds_back(closed("timed out", known))
    new, end = until_the_end(recovery)
    assert (new, end.reason) == ([8, 9], "complete")


def test_without_its_end_on_the_tape_the_stream_s_own_counts(recovery, tmp_path):
    (tmp_path / "a.tape").unlink()
    tape_of(tmp_path / "a.tape", *scan_messages("scan-1")[:-1])
    given(recovery, exposures()[:4])
    assert recovery.holds_back(closed("aborted"))
    new, end = until_the_end(recovery)
    assert (new, end.reason) == ([4, 5, 6, 7, 8, 9], "aborted")


def test_a_resumed_scan_of_which_nothing_comes_any_more_times_out(tmp_path):
    tape = tape_of(tmp_path / "a.tape", *scan_messages("scan-1")[:-1])
    told = config(f"checkpoint.tape={tape}", "scan.idle_timeout_s=0.3")
    sink = CheckpointSink(tmp_path)
    Recovery(told, sink, lambda write: write()).opened(ScanRun(START, told, run="r"))
    anew = Recovery(told, sink)
    resumed = anew.resume()
    assert resumed is not None
    assert resumed.run == "r"
    new, end = until_the_end(anew)
    assert (new, end.reason) == (list(range(10)), "timed out")
    late = ScanOpened(START, None, joined_late=True, early_frames=0)
    assert anew.goes_on(late)
    assert not anew.goes_on(replace(late, joined_late=False))  # it begins again
    assert not anew.goes_on(replace(late, start=ScanStart("scan-2", "det")))


def test_before_the_next_scan_the_tape_is_read_to_its_end(recovery):
    given(recovery, exposures()[:4])
    assert recovery.holds_back(closed("complete"))
    indices = [e.frame.index for e in recovery.rest() if isinstance(e, Exposure)]
    assert indices[-1] == 9


def test_without_a_tape_it_does_nothing(tmp_path):
    recovery = Recovery(config())
    assert recovery.resume() is None
    given(recovery, [*exposures()[:1], *exposures()[:1]])
    assert not recovery.holds_back(closed("timed out"))
    assert recovery.missed() == []
    assert list(tmp_path.iterdir()) == []
