"""A file reconstructed through the same engine as a live scan."""

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import h5py
import torch

from ptystream.config import Config
from ptystream.errors import FileFormatError
from ptystream.ingest.scans import (
    Event,
    ScanClosed,
    ScanOpened,
    ScanTracker,
    TrackerLimits,
)
from ptystream.publish.sink import RunEnd
from ptystream.recon.heap import keep_freed_memory
from ptystream.recon.snapshot import Snapshot
from ptystream.service.scan import NO_EXTRAS, Extras, ScanRun
from ptystream.tape.cxi import CxiScan
from ptystream.tape.log import TapeReader
from ptystream.tape.source import TapeMessages, cxi_messages
from ptystream.wire.messages import Exposure, Message, ScanStart

REPORT_S = 1.0
"""Time between two calls of the progress report."""
NO_HURRY = TrackerLimits(max_frames=1 << 16, pending_frames=1 << 14)
"""A file's clock stands still: frames wait for positions as far as memory allows."""


@dataclass(frozen=True)
class Acquired:
    """A scan read from a file."""

    start: ScanStart
    exposures: list[Exposure]
    extras: Extras = NO_EXTRAS


@dataclass(frozen=True)
class Progress:
    """How far an offline run is."""

    seconds: float
    snapshot: Snapshot


def reconstruct(
    scan: Acquired,
    config: Config,
    *,
    run: str,
    progress: Callable[[Progress], None] = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
) -> tuple[ScanRun, Snapshot | None, RunEnd]:
    """Reconstruct a scan until its held-out quality stops improving or time is up.

    The frame store grows to hold the whole scan. ``stop`` is looked at between steps.

    Raises:
        ConfigError: the scan's geometry or shape can't be used.
    """
    engine = replace(config.engine, store=max(config.engine.store, len(scan.exposures)))
    config = config.model_copy(update={"engine": engine})
    scan_run = ScanRun(scan.start, config, run=run, extras=scan.extras)
    with training_threads(config.engine.threads):
        for exposure in scan.exposures:
            scan_run.add(exposure)
        scan_run.end("complete")
        began_s = told_s = time.monotonic()
        while not scan_run.done:
            scan_run.step()
            if stop():
                scan_run.cut("stopped by the user")
            now_s = time.monotonic()
            if now_s - told_s >= REPORT_S:
                told_s = now_s
                snapshot = scan_run.snapshot()
                if snapshot is not None:
                    progress(Progress(now_s - began_s, snapshot))
        snapshot, end = scan_run.result()
    return scan_run, snapshot, end


@contextmanager
def training_threads(count: int) -> Iterator[None]:
    """Train with this many threads (0: all cores but one), and put the number back.

    One core is left to whatever else runs: threads that wait for one that was put
    aside make a step slower than one thread alone does.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count or max(1, (os.cpu_count() or 1) - 1))
    keep_freed_memory()
    try:
        yield
    finally:
        torch.set_num_threads(before)


def half(exposures: list[Exposure], which: Literal["even", "odd"]) -> list[Exposure]:
    """Return every second exposure by index: two halves tell the resolution (FRC)."""
    return [e for e in exposures if e.frame.index % 2 == (which == "odd")]


def load(path: Path, *, scan: str | None = None) -> Acquired:
    """Read a CXI file, or one scan of a tape (by its uid; None: the first).

    Raises:
        FileFormatError: the file lacks what it should hold, or has no such scan.
        TapeError: the tape can't be read.
    """
    if h5py.is_hdf5(path):
        with CxiScan(path) as cxi:
            extras = Extras(cxi.illumination, cxi.mask)
            return _first_scan(path, cxi_messages(cxi, path.stem), None, extras)
    with TapeReader(path) as tape:
        return _first_scan(path, TapeMessages(tape), scan, NO_EXTRAS)


def _first_scan(
    path: Path,
    messages: Iterable[tuple[str, Message]],
    wanted: str | None,
    extras: Extras,
) -> Acquired:
    """Join a file's messages as a live scan's are; time stands still meanwhile."""
    tracker = ScanTracker(NO_HURRY)
    start: ScanStart | None = None
    exposures: list[Exposure] = []
    for event in _events(tracker, messages):
        if isinstance(event, ScanOpened) and wanted in (None, event.start.scan):
            start = start or event.start
        elif isinstance(event, Exposure):
            if start is not None and event.frame.scan == start.scan:
                exposures.append(event)
        elif isinstance(event, ScanClosed) and start is not None:
            if event.scan == start.scan:
                break
    if start is None or not exposures:
        raise FileFormatError(
            f"{path}: no exposure{f' of scan {wanted}' if wanted else ''}; expected "
            f"frames and positions that share their indices"
        )
    return Acquired(start, exposures, extras)


def _events(
    tracker: ScanTracker, messages: Iterable[tuple[str, Message]]
) -> Iterator[Event]:
    """Yield what a tracker makes of all messages, to the end."""
    for _, message in messages:
        yield from tracker.feed(message, 0.0)
    yield from tracker.stop()
