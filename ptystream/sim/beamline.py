"""A beamline on real sockets: a detector and an encoder box, paced like real ones."""

import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Self

from ptystream.ingest.sender import Sender
from ptystream.sim.experiment import Experiment, build
from ptystream.sim.pace import SLICE_S
from ptystream.sim.run import THREADS, Progress, ScanReport, ScanRun
from ptystream.sim.settings import SimulateSettings
from ptystream.wire.curve import Admission

log = logging.getLogger(__name__)

Stop = Callable[[], bool]
ShowProgress = Callable[[Progress], None]


class Beamline:
    """Builds the experiment and binds two senders; ``run`` streams the scans.

    Attributes:
        experiment: specimen, probe, track and truth; there once entered.
        detector: sender of frames; its ``address`` is the bound one.
        encoder: sender of positions.
    """

    experiment: Experiment
    detector: Sender
    encoder: Sender

    def __init__(
        self, settings: SimulateSettings, curve: Admission | None = None
    ) -> None:
        self._settings = settings
        self._curve = curve
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Compute the experiment and bind both sockets.

        Raises:
            ConfigError: the settings don't fit each other, a picture can't be read, or
                an address is taken.
        """
        settings = self._settings
        self.experiment = build(settings)
        with ExitStack() as stack:
            self.detector, self.encoder = (
                stack.enter_context(
                    Sender(address, pattern=settings.pattern, curve=self._curve)
                )
                for address in (settings.detector.address, settings.encoder.address)
            )
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        """Close both sockets, once what is queued has left or 2 s have passed."""
        self._stack.close()

    def run(
        self, stop: Stop = lambda: False, progress: ShowProgress = lambda _: None
    ) -> list[ScanReport]:
        """Wait for readers, then stream every scan; return what was sent.

        ``stop`` and ``progress`` are called about twenty times a second, from this
        thread. A stop ends the scan that runs as aborted, on the wire too.
        """
        reports: list[ScanReport] = []
        self._await_readers(stop)
        for number in range(self._settings.scan.scans):
            if number:
                self._pause(self._settings.scan.gap_s, stop)
            report = self._scan(number, stop, progress)
            if report is None:
                break
            reports.append(report)
        return reports

    def _await_readers(self, stop: Stop) -> None:
        """Give readers time to connect; after wait_s the show goes on without them."""
        deadline = time.monotonic() + self._settings.wait_s
        missing = {"detector": self.detector, "encoder": self.encoder}
        while missing and not stop():
            for name, sender in tuple(missing.items()):
                if sender.wait_for_subscribers(SLICE_S):
                    del missing[name]
            if time.monotonic() >= deadline:
                break
        if missing:
            log.warning("no reader of the %s", " or of the ".join(missing))

    def _pause(self, seconds: float, stop: Stop) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not stop():
            self._idle()

    def _idle(self) -> None:
        """Let a moment pass, with heartbeats unless the senders play dead."""
        if self._settings.ending != "quiet":
            self.detector.idle()
            self.encoder.idle()
        time.sleep(SLICE_S)

    def _scan(
        self, number: int, stop: Stop, progress: ShowProgress
    ) -> ScanReport | None:
        """Stream one scan; None if stopped before it began."""
        run = ScanRun(self.experiment, number, self.detector, self.encoder)
        with ThreadPoolExecutor(THREADS, thread_name_prefix="sim") as pool:
            try:
                run.prepare(pool)
                while not (stopped := stop()) and not run.ready:
                    self._idle()
                if stopped:
                    return None
                run.start(pool)
                while not run.done():
                    if stop():
                        run.halt()
                    progress(run.progress())
                progress(run.progress())
                return run.report()
            finally:
                # Whatever happened, no thread of the pool may wait for ever.
                run.halt()
