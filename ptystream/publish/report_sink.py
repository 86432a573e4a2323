"""Each run's picture, beside its result; in a thread of its own: drawing takes 2 s."""

import time
from collections.abc import Callable
from pathlib import Path

from ptystream.publish.history import History
from ptystream.publish.picture import draw
from ptystream.publish.sink import FrameCounts, RunEnd, RunInfo
from ptystream.recon.snapshot import Snapshot


class PictureSink:
    """Draws a PNG when a run stops; ``path`` says where its result goes."""

    name = "picture"

    def __init__(
        self,
        path: Callable[[RunInfo], Path],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path, self._clock = path, clock
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
        path = self._path(self._info).with_suffix(".png")
        draw(snapshot, self._history.columns(), path, f"scan {self._info.scan}")

    def close(self) -> None:
        """Hold nothing, release nothing."""
