"""Each run's picture and report, beside its result; in a thread: drawing takes 2 s."""

import time
from collections.abc import Callable
from pathlib import Path

from ptystream.publish.history import History
from ptystream.publish.picture import draw
from ptystream.publish.report import Ended, write_report
from ptystream.publish.sink import FrameCounts, RunEnd, RunInfo
from ptystream.recon.snapshot import Snapshot


class ReportSink:
    """Draws a PNG and writes an HTML page when a run stops."""

    name = "report"

    def __init__(
        self,
        path: Callable[[RunInfo], Path],
        *,
        page: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Store; ``path`` says where a run's result goes, without ``page``: no HTML."""
        self._path, self._page, self._clock = path, page, clock
        self._info: RunInfo | None = None
        self._history = History()
        self._began_s = 0.0

    def start(self, info: RunInfo) -> None:
        """Begin a new history."""
        self._info, self._history, self._began_s = info, History(), self._clock()

    def update(self, snapshot: Snapshot, frames: FrameCounts) -> None:
        """Note the quality."""
        self._history.add(self._clock() - self._began_s, snapshot, frames)

    def stop(self, snapshot: Snapshot | None, frames: FrameCounts, end: RunEnd) -> None:
        """Draw the final snapshot; OSError if it can't be written."""
        if snapshot is None or self._info is None:
            return
        self.update(snapshot, frames)
        path = self._path(self._info)
        columns, picture = self._history.columns(), path.with_suffix(".png")
        draw(snapshot, columns, picture, f"scan {self._info.scan}")
        if self._page:
            drawn = picture.read_bytes()
            ended = Ended(self._info, snapshot, frames, end, columns, drawn)
            write_report(path.with_suffix(".html"), ended)

    def close(self) -> None:
        """Hold nothing, release nothing."""
