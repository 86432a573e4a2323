"""What the engine's thread tells the others: plain values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ptystream.publish.sink import FrameCounts, RunEnd, RunInfo
from ptystream.recon.snapshot import Snapshot
from ptystream.wire.messages import ScanStart


@dataclass(frozen=True, slots=True)
class EngineState:
    """What the engine is doing; ``phase`` is that of the scan, or ``idle``.

    ``run``, ``scan`` and ``raw_uid`` (of the Bluesky run that the scan belongs to) are
    empty between scans; ``frames`` are then the last one's. ``detail`` says why the
    last scan was given up, if it was.
    """

    phase: str = "idle"
    run: str = ""
    scan: str = ""
    raw_uid: str = ""
    steps: int = 0
    step_s: float = 0.0
    store_frames: int = 0
    store_capacity: int = 0
    evicted: int = 0
    ignored: int = 0
    finished_scans: int = 0
    started_s: float | None = None
    lag_s: float = float("nan")
    detail: str = ""
    frames: FrameCounts = field(default_factory=FrameCounts)
    geometry: Mapping[str, Any] = field(default_factory=dict)
    snapshot: Snapshot | None = None


@dataclass(frozen=True, slots=True)
class Cut:
    """An order to end a run; ``enough`` if what there is counts as complete."""

    run: str
    why: str
    enough: bool = False
    refine: bool = False


@dataclass(frozen=True, slots=True)
class Finished:
    """A scan that ended; ``kept`` is false if there was nothing to reconstruct."""

    info: RunInfo
    end: RunEnd
    frames: FrameCounts
    kept: bool


def raw_uid_of(start: ScanStart) -> str:
    """Return the uid of the Bluesky run that a scan belongs to; empty if of none."""
    uid = start.meta.get("bluesky_uid")
    return uid if isinstance(uid, str) else ""
