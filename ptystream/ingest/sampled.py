"""From encoder columns to the samples that are joined with frames."""

import logging
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from ptystream.errors import DecodeError
from ptystream.ingest.encoders import EncoderTable, Track
from ptystream.ingest.supersampling import RatioInference
from ptystream.wire.columns import Columns
from ptystream.wire.messages import (
    Frame,
    Message,
    Samples,
    ScanEnd,
    ScanStart,
)

log = logging.getLogger(__name__)

PerFrame = int | Literal["auto"]
_Late = Samples | ScanEnd


@dataclass(frozen=True, slots=True)
class SampledStats:
    """What became of encoder rows; all counts are rows since the beginning.

    ``lost`` never came, by their numbers; ``unusable`` weren't finite, or had no column
    that the settings name; ``refused`` had no known number a frame, for ``reason``;
    ``overflow`` made room while it wasn't known. ``per_frame`` is 0 until it is.
    """

    per_frame: int = 0
    waiting: int = 0
    lost: int = 0
    unusable: int = 0
    refused: int = 0
    overflow: int = 0
    reason: str = ""


class SampledPositions:
    """Makes samples of one position stream's columns; other messages pass.

    With ``per_frame`` auto, samples wait, ``max_waiting`` rows at most and the oldest
    dropped, until it is known how many belong to a frame; the scan's end waits behind
    them. Rows of a gate are one a frame.
    """

    def __init__(
        self,
        table: EncoderTable | None = None,
        per_frame: PerFrame = "auto",
        *,
        max_waiting: int = 1 << 18,
    ) -> None:
        self._table = table
        self._told = per_frame if isinstance(per_frame, int) else 0
        self._max_waiting = max_waiting
        self._inference = RatioInference()
        self._queue: deque[_Late] = deque()
        self._per_frame = self._told
        self._scan = self._detector_scan = ""
        self._next: int | None = None
        self._waiting = self._lost = self._unusable = 0
        self._refused = self._overflow = 0
        self._reason = ""

    @property
    def listens(self) -> bool:
        """Tell whether it matters what the detector says."""
        return self._table is not None

    def observe(self, message: Message) -> None:
        """Learn from a detector's message how fast its frames come."""
        if isinstance(message, Frame):
            self._inference.frame(message.index, message.start_ns)
        elif isinstance(message, ScanStart):
            if not message.again or message.scan != self._detector_scan:
                self._inference.frames_begin()
            self._detector_scan = message.scan
        elif isinstance(message, ScanEnd):
            self._inference.frames_end(message.sent)
            self._check()

    def take(self, message: Message | Columns, arrived_s: float = 0.0) -> list[Message]:
        """Return what a message of the positions makes known, in order."""
        if isinstance(message, Columns):
            samples = self._samples(message, arrived_s)
            return [passed for part in samples for passed in self._pass(part)]
        if isinstance(message, ScanStart):
            return [*self._begin(message), message]
        if isinstance(message, ScanEnd):
            self._finish(message)
            return self._pass(message) if self._queue else [message]
        if isinstance(message, Samples):
            self._count_gap(message.first, len(message.position_m))
        return [message]

    def release(self) -> list[Message]:
        """Return what waited, once the detector told enough; for every turn."""
        return self._decide() if self._queue else []

    def stats(self) -> SampledStats:
        """Return the counts so far."""
        return SampledStats(
            per_frame=self._per_frame,
            waiting=self._waiting,
            lost=self._lost,
            unusable=self._unusable,
            refused=self._refused,
            overflow=self._overflow,
            reason=self._reason,
        )

    def _begin(self, start: ScanStart) -> list[Message]:
        """Begin a scan, unless it goes on; what waited of the last one is refused."""
        if start.again and start.scan == self._scan:
            return []
        done = self._drop_waiting("another scan began before that was known")
        self._inference.samples_begin()
        self._per_frame, self._reason = self._told, ""
        self._scan, self._next = start.scan, None if start.again else 0
        if self._table is not None:
            self._table.begin()
        return done

    def _finish(self, end: ScanEnd) -> None:
        if self._next is not None and end.sent is not None:
            self._lost += max(0, end.sent - self._next)
        self._next = None
        self._inference.samples_end(end.sent)
        self._check()

    def _samples(self, columns: Columns, arrived_s: float) -> list[Samples]:
        """Return the rows in metres, those of no use left out and counted."""
        self._count_gap(columns.first, len(columns))
        if self._table is None:
            there = ", ".join(sorted(columns.columns))
            return self._useless(columns, f"positions.y and .x name none of {there}")
        try:
            track = self._table.track(columns)
        except DecodeError as e:
            return self._useless(columns, str(e))
        if track.gated and not self._per_frame:
            self._per_frame = 1
        if not self._per_frame and track.time_s is not None:
            self._inference.samples(columns.first, track.time_s)
        finite = np.asarray(np.isfinite(track.mean_m).all(axis=1))
        self._unusable += int((~finite).sum())
        return [self._part(columns, track, run, arrived_s) for run in _runs(finite)]

    def _part(
        self, columns: Columns, track: Track, run: slice, arrived_s: float
    ) -> Samples:
        """Return some of the rows, under their own numbers."""
        return Samples(
            columns.scan,
            columns.first + run.start,
            self._per_frame,
            track.mean_m[run],
            arrived_s,
            None if track.start_m is None else track.start_m[run],
            None if track.end_m is None else track.end_m[run],
            None if track.monitor is None else track.monitor[run],
        )

    def _count_gap(self, first: int, rows: int) -> None:
        """Count the rows whose message was lost; before the first we weren't there."""
        if self._next is not None:
            self._lost += max(0, first - self._next)
        self._next = max(self._next or 0, first + rows)

    def _useless(self, columns: Columns, reason: str) -> list[Samples]:
        self._unusable += len(columns)
        self._say(reason)
        return []

    def _pass(self, late: _Late) -> list[Message]:
        """Return a message, or keep it until the number of samples a frame is known."""
        if self._per_frame:
            return [late]
        self._queue.append(late)
        self._waiting += _rows(late)
        while self._waiting > self._max_waiting:
            oldest = self._queue.popleft()
            self._waiting -= _rows(oldest)
            self._overflow += _rows(oldest)
        return self._decide()

    def _decide(self) -> list[Message]:
        """Return all that waits, if it is known or refused by now."""
        verdict = self._inference.verdict()
        if verdict.per_frame:
            self._per_frame, self._reason = verdict.per_frame, ""
            log.info("%d encoder samples a frame", verdict.per_frame)
            waiting, self._waiting = list(self._queue), 0
            self._queue.clear()
            return [_with(late, verdict.per_frame) for late in waiting]
        if verdict.final:
            return self._drop_waiting(verdict.reason)
        self._reason = verdict.reason
        return []

    def _drop_waiting(self, reason: str) -> list[Message]:
        """Refuse the samples that wait; what else waits is returned."""
        if not self._queue:
            return []
        rest: list[Message] = [m for m in self._queue if isinstance(m, ScanEnd)]
        self._refused += self._waiting
        self._waiting = 0
        self._queue.clear()
        self._say(f"samples a frame unknown: {reason}; set positions.per_frame")
        return rest

    def _check(self) -> None:
        """Say what the totals have against the number that was taken."""
        told = self._per_frame and self._inference.contradiction(self._per_frame)
        if told:
            self._say(told)

    def _say(self, reason: str) -> None:
        """Keep the reason, and log it when it is new."""
        if reason != self._reason:
            log.error("positions: %s", reason)
        self._reason = reason


def _rows(message: _Late) -> int:
    return len(message.position_m) if isinstance(message, Samples) else 0


def _with(message: _Late, per_frame: int) -> Message:
    if isinstance(message, Samples):
        return replace(message, per_frame=per_frame)
    return message


def _runs(good: np.ndarray) -> Iterator[slice]:
    """Yield the stretches of rows that are good."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], good, [False]])))
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
        yield slice(int(start), int(stop))
