"""What a tape has of a scan, and the service missed: read in a thread of its own."""

import logging
import queue
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from ptystream.config import Config
from ptystream.errors import PtystreamError
from ptystream.ingest.scans import ScanClosed
from ptystream.service.offline import recorded
from ptystream.tape.follow import GrowingTape
from ptystream.tape.log import TapeReader
from ptystream.wire.messages import Exposure

log = logging.getLogger(__name__)

AHEAD = 32
"""Exposures read ahead of the engine; then the reader waits for it."""
WAIT_S = 0.1


class Mark(NamedTuple):
    """A place on a tape, before a scan's first record."""

    tape: str
    offset: int = 0


class Missed:
    """Reads a tape that may still grow, until it is closed; nothing waits for it."""

    def __init__(self, mark: Mark, scan: str, config: Config) -> None:
        self._mark, self._scan, self._config = mark, scan, config
        self._queue = queue.Queue[Exposure | ScanClosed](AHEAD)
        self._stopping = threading.Event()
        self._up_to_s = -float("inf")
        self._thread = threading.Thread(target=self._read, name="tape", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def close(self) -> None:
        """Stop reading."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(10)

    def take(self, most: int) -> list[Exposure | ScanClosed]:
        """Return what has been read since; never waits."""
        taken: list[Exposure | ScanClosed] = []
        while len(taken) < most:
            try:
                taken.append(self._queue.get_nowait())
            except queue.Empty:
                break
        return taken

    @property
    def over(self) -> bool:
        """Whether nothing more comes: nobody writes the tape, and all is taken."""
        return not self._thread.is_alive() and self._queue.empty()

    def all_until(self, moment_s: float) -> bool:
        """Tell whether all has been taken that was on the tape then (monotonic)."""
        return self.over or (self._up_to_s > moment_s and self._queue.empty())

    def _read(self) -> None:
        try:
            with TapeReader(self._mark.tape) as tape:
                growing = GrowingTape(
                    tape,
                    begin=self._mark.offset,
                    stop=self._stopping.is_set,
                    idle=self._idle,
                )
                told = tape.header, self._config
                for event in recorded(growing, *told, only=self._scan):
                    if isinstance(event, Exposure):
                        scan = event.frame.scan
                        frame = replace(event.frame, arrived_s=time.monotonic())
                        event = replace(event, frame=frame)
                    elif isinstance(event, ScanClosed):
                        scan = event.scan
                    else:
                        continue
                    if scan == self._scan and not self._put(event):
                        return
        except PtystreamError as error:
            log.error("scan %s: not from the tape: %s", self._scan, error)

    def _idle(self) -> None:
        self._up_to_s = time.monotonic()

    def _put(self, event: Exposure | ScanClosed) -> bool:
        """Hand over an event; False if it was stopped before anybody took it."""
        while not self._stopping.is_set():
            try:
                self._queue.put(event, timeout=WAIT_S)
                return True
            except queue.Full:
                continue
        return False


def mark_of(tape: Path, since: Mark | None = None) -> Mark:
    """Return where a tape, or the newest ``*.tape`` of a folder, ends by now.

    One that isn't there yet is marked at its start, as is one that ``since`` was not.
    """
    if tape.is_dir():
        tapes = [p for p in tape.iterdir() if p.suffix == ".tape" and p.is_file()]
        tape = max(tapes, key=lambda path: path.stat().st_mtime, default=tape)
    if since is None or since.tape != str(tape) or not tape.is_file():
        return Mark(str(tape))
    return Mark(str(tape), tape.stat().st_size)
