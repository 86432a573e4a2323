"""One scan: frames made ahead, then a detector and an encoder box side by side."""

import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

import numpy as np

from ptystream.ingest.sender import Sender
from ptystream.sim.boxes import Box, BoxReport, sample_batches
from ptystream.sim.experiment import Experiment
from ptystream.sim.pace import SLICE_S, Ahead, Pacer
from ptystream.wire.envelope import EncodedFrame, encode_frame
from ptystream.wire.messages import Frame, Samples, ScanStart

THREADS = 3
"""What a scan needs of its pool: a maker of frames, and two boxes."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the current scan is; ``number`` counts scans from 0."""

    scan: str
    number: int
    frames: int
    frames_total: int
    samples: int


@dataclass(frozen=True, slots=True)
class ScanReport:
    """One scan as sent.

    Both rates are frames over time, turn-arounds included; None for one frame or none.
    """

    scan: str
    frames_total: int
    detector: BoxReport
    encoder: BoxReport
    rate_hz: float | None
    planned_hz: float | None


class ScanRun:
    """Streams one scan: ``prepare``, once ``ready`` ``start``, until it is ``done``.

    The boxes are threads with a socket and a context each, not processes: frames are
    computed and compressed before they are due, so that all that is left to do in time
    is a send (0.04 ms for 64x64). A reader can't tell the difference, and one stop
    ends both in order.
    """

    def __init__(
        self, experiment: Experiment, number: int, detector: Sender, encoder: Sender
    ) -> None:
        self._experiment = experiment
        self._number = number
        self._senders = detector, encoder
        self._scan = str(uuid.uuid4())
        self._halt = threading.Event()
        scan = experiment.settings.scan
        self._period_s = 1 / scan.rate_hz
        end_s = experiment.track.end_s(self._period_s, scan.line_pause_s)
        self._end_s = end_s[: experiment.settings.stop_after]
        self._ahead = Ahead(experiment.settings.detector.ahead_frames, self._halt)
        self._boxes: list[Box] = []
        self._work: list[Future[BoxReport]] = []

    def prepare(self, pool: ThreadPoolExecutor) -> None:
        """Start to make frames."""
        self._maker = pool.submit(self._ahead.fill, self._frames())

    @property
    def ready(self) -> bool:
        """Tell whether enough frames are made (or the maker failed, for all time)."""
        return self._ahead.ready or self._maker.done()

    def start(self, pool: ThreadPoolExecutor) -> None:
        """Start both boxes on one clock."""
        start_s = time.monotonic()
        ending = self._experiment.settings.ending
        self._boxes = [
            Box(sender, Pacer(start_s, self._halt, sender.idle), start, ending)
            for sender, start in zip(self._senders, self._starts(), strict=True)
        ]
        due = zip(self._end_s.tolist(), self._ahead, strict=False), self._batches()
        self._work = [
            pool.submit(box.run, messages)
            for box, messages in zip(self._boxes, due, strict=True)
        ]

    def done(self) -> bool:
        """Wait a moment; tell whether both boxes are through. A failure halts all."""
        tasks = [self._maker, *self._work]
        wait(self._work, timeout=SLICE_S)
        if any(task.done() and task.exception() for task in tasks):
            self.halt()
        return all(task.done() for task in self._work)

    def halt(self) -> None:
        """Make every thread end soon; both streams are told of an abort."""
        self._halt.set()

    def progress(self) -> Progress:
        """Return how far it is."""
        frames, samples = (box.items for box in self._boxes)
        return Progress(self._scan, self._number, frames, len(self._end_s), samples)

    def report(self) -> ScanReport:
        """Return what was sent, or raise what made a thread fail."""
        if self._maker.done():
            self._maker.result()
        detector, encoder = (task.result() for task in self._work)
        spent_s = detector.last_s - detector.first_s
        return ScanReport(
            self._scan,
            len(self._end_s),
            detector,
            encoder,
            rate_hz=_rate_hz(detector.items, spent_s),
            planned_hz=_rate_hz(len(self._end_s), float(np.ptp(self._end_s))),
        )

    def _frames(self) -> Iterator[EncodedFrame]:
        encoding = self._experiment.settings.detector.encoding
        counts = self._experiment.frames(self._number)
        for index, (end_s, image) in enumerate(zip(self._end_s, counts, strict=False)):
            stop_ns = round(end_s * 1e9)
            start_ns = round((end_s - self._period_s) * 1e9)
            frame = Frame(self._scan, index, image, start_ns, stop_ns)
            yield encode_frame(frame, encoding)

    def _batches(self) -> Iterator[tuple[float, Samples]]:
        encoder = self._experiment.settings.encoder
        rows = len(self._end_s) * encoder.per_frame
        return sample_batches(
            self._scan,
            self._experiment.samples_m(self._number)[:rows],
            self._end_s,
            batch=encoder.batch_samples,
            lag_s=encoder.lag_s,
        )

    def _starts(self) -> tuple[ScanStart, ScanStart]:
        """Return what each stream says of the scan: nominal values, no truth."""
        experiment, detector = self._experiment, self._experiment.settings.detector
        frames = len(experiment.track.line)
        det = ScanStart(
            self._scan,
            "det",
            shape=(detector.size_px, detector.size_px),
            dtype=np.dtype(detector.dtype).str,
            frames_expected=frames,
            geometry=experiment.geometry,
            dwell_s=self._period_s,
            meta=experiment.meta,
        )
        pos = ScanStart(self._scan, "pos", frames_expected=frames)
        return det, pos


def _rate_hz(frames: int, first_to_last_s: float) -> float | None:
    return (frames - 1) / first_to_last_s if first_to_last_s > 0 else None
