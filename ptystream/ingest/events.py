"""What becomes of scans: opened, exposed, closed."""

from dataclasses import dataclass
from typing import Literal, get_args

from ptystream.ingest.pairing import JoinCounts
from ptystream.wire.messages import EndReason, Exposure, ScanStart

CloseReason = Literal[EndReason, "superseded"]
"""Why a scan ended; ``superseded`` ends it by the start of the next."""
CLOSE_REASONS: tuple[CloseReason, ...] = (*get_args(EndReason), "superseded")


@dataclass(frozen=True, slots=True)
class ScanCounts:
    """A scan's frames: ``missing`` were sent but never came; the rest is in ``join``.

    ``frames_expected`` is what the detector's end said, else what its start promised.
    """

    frames_expected: int | None
    frames_missing: int
    join: JoinCounts


@dataclass(frozen=True, slots=True)
class ScanOpened:
    """The detector began; the positions' start may come later or never.

    ``joined_late``: the start was a repeated one, so frames may have been missed.
    ``early_frames`` came before it and were kept.
    """

    start: ScanStart
    positions_start: ScanStart | None
    joined_late: bool
    early_frames: int


@dataclass(frozen=True, slots=True)
class ScanClosed:
    """No exposure of this scan comes after this."""

    scan: str
    reason: CloseReason
    counts: ScanCounts


Event = ScanOpened | Exposure | ScanClosed
