"""The two boxes of a beamline: one sends frames, the other encoder samples."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float64

from ptystream.ingest.sender import Sender
from ptystream.sim.pace import Pacer
from ptystream.wire.envelope import EncodedFrame
from ptystream.wire.messages import EndReason, Samples, ScanEnd, ScanStart

Ending = Literal["complete", "aborted", "quiet"]


@dataclass(frozen=True, slots=True)
class BoxReport:
    """What one box did.

    ``items`` are frames or samples, ``refused`` messages that a full queue turned
    away, ``late_s`` the worst delay; ``first_s`` and ``last_s`` are when the first
    and the last message left, from the scan's start (0 if none did).
    """

    items: int
    refused: int
    late_s: float
    first_s: float
    last_s: float


class Box:
    """Sends a start, items when they are due, and the end that it was told to make."""

    def __init__(
        self, sender: Sender, pacer: Pacer, start: ScanStart, ending: Ending
    ) -> None:
        self._sender = sender
        self._pacer = pacer
        self._start = start
        self._ending: Ending = ending
        self._refused = 0
        self._first_s = self._last_s = 0.0
        self.items = 0
        """Frames or samples sent so far; other threads may read it."""

    def run(self, due: Iterable[tuple[float, EncodedFrame | Samples]]) -> BoxReport:
        """Send each message at its time after the start, until the scan halts."""
        self._sender.send(self._start)
        for due_s, message in due:
            if not self._send(due_s, message):
                break
        self._end()
        late_s = self._pacer.late_s
        return BoxReport(self.items, self._refused, late_s, self._first_s, self._last_s)

    def _send(self, due_s: float, message: EncodedFrame | Samples) -> bool:
        if not self._pacer.wait(due_s):
            return False
        self._refused += not self._sender.send(message)
        self._last_s = self._pacer.elapsed_s()
        self._first_s = self._first_s if self.items else self._last_s
        self.items += len(message.position_m) if isinstance(message, Samples) else 1
        return True

    def _end(self) -> None:
        """Say goodbye, unless silence is wanted; a stop from outside is an abort."""
        halted = self._pacer.halted
        if self._ending == "quiet" and not halted:
            return
        aborted = halted or self._ending == "aborted"
        reason: EndReason = "aborted" if aborted else "complete"
        self._sender.send(ScanEnd(self._start.scan, self._start.stream, reason))


def sample_batches(
    scan: str,
    samples_m: Float64[np.ndarray, "samples 2"],
    end_s: Float64[np.ndarray, "n"],
    *,
    batch: int,
    lag_s: float,
) -> Iterator[tuple[float, Samples]]:
    """Yield batches and when they leave: once full, and ``lag_s`` after that.

    ``end_s`` is when each exposure ends. Batches don't heed where exposures do.
    """
    per_frame = len(samples_m) // len(end_s)
    for first in range(0, len(samples_m), batch):
        rows = samples_m[first : first + batch]
        filled_s = float(end_s[(first + len(rows) - 1) // per_frame])
        yield filled_s + lag_s, Samples(scan, first, per_frame, rows)
