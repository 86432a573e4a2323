"""How the quality went during a run, in bounded memory."""

import numpy as np

from ptystream.publish.sink import FrameCounts
from ptystream.recon.snapshot import Snapshot

COLUMNS = (
    "time_s",
    "step",
    "exposures",
    "loss",
    "held_out_error",
    "flat_error",
    "held_out_nll",
    "covered",
    "resolution_m",
    "converged",
    "frames_received",
    "frames_lost",
)


class History:
    """A row per snapshot; when full, every second row goes and half as many come.

    So the rows always span the whole run, evenly; the newest is always kept.
    """

    def __init__(self, capacity: int = 4096) -> None:
        self._capacity = max(2, capacity)
        self._rows: list[tuple[float, ...]] = []
        self._newest: tuple[float, ...] | None = None
        self._every = 1
        self._seen = 0

    def add(self, time_s: float, snapshot: Snapshot, frames: FrameCounts) -> None:
        """Add a row; ``time_s`` counts from the run's start."""
        quality = snapshot.quality
        self._newest = (
            time_s,
            float(snapshot.step),
            float(snapshot.exposures),
            float(quality.loss),
            float(quality.held_out_error),
            float(quality.flat_error),
            float(quality.held_out_nll),
            float(quality.covered),
            float(quality.resolution_m),
            float(quality.converged),
            float(frames.received),
            float(sum(frames.lost.values())),
        )
        if self._seen % self._every == 0:
            self._rows.append(self._newest)
            if len(self._rows) > self._capacity:
                self._rows = self._rows[::2]
                self._every *= 2
        self._seen += 1

    def columns(self) -> dict[str, np.ndarray]:
        """Return one float64 array ``[rows]`` per name of ``COLUMNS``."""
        rows = list(self._rows)
        if self._newest is not None and (not rows or rows[-1] is not self._newest):
            rows.append(self._newest)
        table = np.array(rows, np.float64).reshape(len(rows), len(COLUMNS))
        return {name: table[:, i].copy() for i, name in enumerate(COLUMNS)}
