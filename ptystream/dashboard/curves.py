"""How a run goes over time, out of status messages, in bounded memory."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

COLUMNS = (
    "time_s",
    "loss",
    "held_out_error",
    "flat_error",
    "noise_error",
    "resolution_nm",
    "frames_per_s",
    "lag_ms",
    "lost",
)
ROWS = 600
EVERY_S = 0.25
RATE_S = 1.0
"""Frames are counted over at least so long to tell their rate."""
STALL_S = 3.0
"""A count that stands still for less is late: a busy service tells it in jumps."""


class Curves:
    """A row per status message of the open run, at most four a second.

    When full, every second row goes and half as many come, so the rows always span the
    whole run; the newest is always kept. Another run begins anew.
    """

    def __init__(self, rows: int = ROWS) -> None:
        self._most = max(2, rows - rows % 2)  # even: of one more, the last stays
        self._begin(None)

    def add(self, status: Mapping[str, Any]) -> None:
        """Add what one status message says; between runs nothing is added."""
        run, began_s = status.get("run"), status.get("started_s")
        if run is None or began_s is None:
            return
        if run != self.run:
            self._begin(run)
        time_s = _number(status.get("time")) - began_s
        self._count(time_s, _number((status.get("frames") or {}).get("received")))
        if not time_s >= self._newest_s + self._every_s:
            return
        self._newest_s = time_s
        self._rows.append(self._row(time_s, status))
        if len(self._rows) > self._most:
            del self._rows[1::2]
            self._every_s *= 2

    def columns(self) -> dict[str, np.ndarray]:
        """Return one float64 array ``[rows]`` per name of ``COLUMNS``."""
        table = np.array(self._rows, np.float64).reshape(-1, len(COLUMNS))
        return {name: table[:, i].copy() for i, name in enumerate(COLUMNS)}

    @property
    def frames_per_s(self) -> float:
        """The newest rate of frames; NaN before there is one."""
        return self._rate

    def _begin(self, run: str | None) -> None:
        self.run = run
        self._rows: list[tuple[float, ...]] = []
        self._every_s, self._newest_s = EVERY_S, -math.inf
        self._counted: tuple[float, float] | None = None
        self._rate = math.nan

    def _row(self, time_s: float, status: Mapping[str, Any]) -> tuple[float, ...]:
        quality, frames = status.get("quality") or {}, status.get("frames") or {}
        return (
            time_s,
            *(_number(quality.get(name)) for name in COLUMNS[1:5]),
            1e9 * _number(quality.get("resolution_m")),
            self._rate,
            1e3 * _number(status.get("lag_s")),
            float(sum((frames.get("lost") or {}).values())),
        )

    def _count(self, time_s: float, received: float) -> None:
        """Keep the rate over the last second or more."""
        if self._counted is None:
            self._counted = time_s, received
        since_s, before = self._counted
        wait_s = RATE_S if received != before else STALL_S
        if time_s - since_s >= wait_s:
            self._rate = max(0.0, received - before) / (time_s - since_s)
            self._counted = time_s, received


def _number(value: object) -> float:
    """Return a number, NaN for what is not known."""
    return float(value) if isinstance(value, int | float) else math.nan
