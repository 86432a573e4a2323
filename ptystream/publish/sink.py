"""Where snapshots go: the protocol that every sink keeps, and the list for tests."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from ptystream.recon.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class RunInfo:
    """One reconstruction run: which scan it belongs to, how it was made.

    ``run`` is this reconstruction's uid, ``scan`` the uid of the scan that it
    reconstructs, ``started_s`` wall time since 1970. ``provenance`` is JSON-safe:
    ``config``, ``software``, ``seed``, ``geometry`` and the ``origins`` of its
    values, and ``scan``, the scan's own metadata as its stream gave it.
    """

    run: str
    scan: str
    started_s: float
    provenance: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FrameCounts:
    """Frames of the scan so far; ``lost`` by reason, each from a closed set."""

    expected: int | None = None
    received: int = 0
    paired: int = 0
    lost: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RunEnd:
    """How a run ended: ``reason`` is the scan's, ``refined`` why refinement stopped."""

    reason: str
    refined: str
    seconds_after_last_frame: float


class Sink(Protocol):
    """A place for results. Called from one thread of its own; may be slow; may raise.

    The order is start, any number of updates (some may be skipped), stop.
    """

    name: str

    def start(self, info: RunInfo) -> None:
        """A run begins."""
        ...

    def update(self, snapshot: Snapshot, frames: FrameCounts) -> None:
        """Show the newest snapshot; older ones that it overtook are never seen."""
        ...

    def stop(self, snapshot: Snapshot | None, frames: FrameCounts, end: RunEnd) -> None:
        """Keep the final snapshot (None if nothing was reconstructed)."""
        ...

    def close(self) -> None:
        """Release what the sink holds; no run is open."""
        ...
