"""What the service finds wrong with the data, as every outlet tells it: pure."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ptystream.recon.snapshot import Snapshot


def findings(snapshot: Snapshot | None) -> list[dict[str, Any]]:
    """Return a snapshot's findings as plain values; empty if there are none."""
    return [] if snapshot is None else [asdict(found) for found in snapshot.health]


def named(found: Sequence[Mapping[str, Any]]) -> str:
    """Return findings in one line: ``positions lag (93%): by two frames; …``."""
    return "; ".join(f"{f['fault']} ({f['sure']:.0%}): {f['detail']}" for f in found)
