"""A file reconstructed through the same engine as a live scan."""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from ptystream.config import Config
from ptystream.errors import FileFormatError
from ptystream.ingest.preprocess import Preprocess
from ptystream.ingest.sampled import SampledPositions
from ptystream.ingest.scans import (
    Event,
    ScanClosed,
    ScanOpened,
    ScanTracker,
)
from ptystream.publish.sink import RunEnd
from ptystream.recon.heap import keep_freed_memory
from ptystream.recon.snapshot import Snapshot
from ptystream.service.intake import encoder_table
from ptystream.service.recorded import NO_HURRY, RecordedScans, limits_of
from ptystream.service.scan import NO_EXTRAS, Extras, ScanRun
from ptystream.tape.files import is_tape, scan_file
from ptystream.tape.format import Record
from ptystream.tape.log import TapeReader
from ptystream.tape.source import file_messages
from ptystream.wire.envelope import EncodedFrame
from ptystream.wire.messages import Calibration, Exposure, Frame, Message, ScanStart

STEPS_A_SECOND = 100.0
"""What a second is, where time is counted in steps."""
REPORT_S = 1.0
"""Time between two calls of the progress report."""


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


class StepClock:
    """Seconds that pass by steps: patience and limits are the same on any machine."""

    def __init__(self) -> None:
        self._steps = 0

    def tick(self) -> None:
        """Note a step."""
        self._steps += 1

    def __call__(self) -> float:
        """Return the time in seconds."""
        return self._steps / STEPS_A_SECOND


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
    probe = config.probe
    if probe.patient is None:  # nobody waits for the first picture
        probe = replace(probe, patient=True)
    config = config.model_copy(update={"engine": engine, "probe": probe})
    clock = StepClock() if config.engine.deterministic else time.monotonic
    scan_run = ScanRun(scan.start, config, run=run, extras=scan.extras, clock=clock)
    with training_threads(config.engine.threads):
        for exposure in scan.exposures:
            scan_run.add(exposure)
        scan_run.end("complete")
        began_s = told_s = time.monotonic()
        while not scan_run.done:
            scan_run.step()
            if isinstance(clock, StepClock):
                clock.tick()
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


def load(
    path: Path, *, scan: str | None = None, config: Config | None = None
) -> Acquired:
    """Read a CXI or HXN-style file, or one scan of a tape (its uid; None: the first).

    A tape's patterns and encoders are treated as ``config`` tells the live service to.

    Raises:
        FileFormatError: the file lacks what it should hold, or has no such scan.
        TapeError: the tape can't be read.
    """
    if not is_tape(path):
        with scan_file(path) as file:
            extras = Extras(file.illumination, file.mask)
            lag = 0 if config is None else config.positions.lag
            events = _file_events(file_messages(file, path.stem), lag)
            return _first_scan(path, events, None, extras)
    with TapeReader(path) as tape:
        events = recorded(tape, tape.header, config or Config())
        return _first_scan(path, events, scan, NO_EXTRAS)


def _first_scan(
    path: Path,
    events: Iterable[Event | Calibration],
    wanted: str | None,
    extras: Extras,
) -> Acquired:
    """Return the exposures of the scan that is wanted."""
    start: ScanStart | None = None
    exposures: list[Exposure] = []
    for event in events:
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


def _file_events(messages: Iterable[tuple[str, Message]], lag: int) -> Iterator[Event]:
    """Join a file's messages as a live scan's are; time stands still meanwhile."""
    tracker = ScanTracker(replace(NO_HURRY, lag=lag))
    for _, message in messages:
        yield from tracker.feed(message, 0.0)
    yield from tracker.stop()


def recorded(
    records: Iterable[Record],
    header: Mapping[str, Any],
    config: Config,
    *,
    only: str | None = None,
) -> RecordedScans:
    """Return a tape's scans, its patterns and encoders treated as live ones are.

    ``only`` is the uid of the one that is wanted, if not all are.
    """
    preprocess = Preprocess(config.detector.preprocess, config.detector.crop)
    preprocess.read_files()

    def as_frame(frame: EncodedFrame, record: Record) -> Frame:
        shape, dtype = preprocess.form(frame)
        counts = np.empty(shape, dtype)
        preprocess.decode_into(frame, counts)
        times = frame.start_ns, frame.stop_ns, record.mono_ns / 1e9
        return Frame(frame.scan, frame.index, counts, *times)

    positions = config.positions
    return RecordedScans(
        records,
        header,
        as_frame=as_frame,
        sampled=SampledPositions(encoder_table(positions), positions.per_frame),
        preprocess=preprocess,
        limits=limits_of(config.detector),
        only=only,
        lag=positions.lag,
    )
