"""What is on a tape, in numbers."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from ptystream.tape.index import TapeIndex
from ptystream.tape.kinds import Marked
from ptystream.tape.streams import streams_of

MAX_SCANS = 100_000
"""Scans of one tape that are told apart; more are only counted."""


def summary(header: Mapping[str, Any], index: TapeIndex) -> dict[str, Any]:
    """Return what a tape's header and index tell, for JSON.

    Each stream has its wire, its records and bytes, when the first came, seconds to
    the last, records a second, and the longest time between two.
    """
    known = streams_of(header)
    rows = index.rows
    streams = {}
    for name in index.streams:
        about = asdict(known[name]) if name in known else {}
        streams[name] = {**about, **_numbers(index.of(name))}
    said = {k: v for k, v in header.items() if k not in ("taps", "record")}
    return {
        "header": said,
        "records": len(rows),
        "bytes": int(rows["end"][-1]) if len(rows) else 0,
        "seconds": _seconds(rows),
        "streams": streams,
        "damage": asdict(index.damage),
    }


def _numbers(rows: np.ndarray) -> dict[str, Any]:
    gaps_s = np.diff(rows["mono_ns"].astype(np.int64)) / 1e9
    seconds = _seconds(rows)
    first = datetime.fromtimestamp(int(rows["wall_ns"][0]) / 1e9, UTC)
    return {
        "records": len(rows),
        "parts_bytes": int(rows["parts_bytes"].sum()),
        "first": first.isoformat(timespec="milliseconds"),
        "seconds": seconds,
        "per_second": round((len(rows) - 1) / seconds, 3) if seconds else None,
        "longest_gap_s": round(float(gaps_s.max()), 6) if len(gaps_s) else 0.0,
    }


def _seconds(rows: np.ndarray) -> float:
    """Return the time from first to last; a clock that went back counts as none."""
    if len(rows) < 2:
        return 0.0
    gaps = np.diff(rows["mono_ns"].astype(np.int64))
    return round(float(np.maximum(gaps, 0).sum()) / 1e9, 6)


@dataclass
class ScanSummary:
    """One stream's part of a scan: its messages by kind; ``other`` aren't counted."""

    stream: str
    scan: str
    starts: int = 0
    frames: int = 0
    samples: int = 0
    ends: int = 0


_COUNTED = {"start": "starts", "frame": "frames", "samples": "samples", "end": "ends"}


def scans(tape: Iterable[Marked]) -> list[dict[str, Any]]:
    """Return each stream's scans in order, with how many messages of each kind."""
    found: dict[tuple[str, str], ScanSummary] = {}
    for mark in tape:
        if mark.kind not in _COUNTED:
            continue
        key = mark.record.stream, mark.scan
        if key not in found and len(found) >= MAX_SCANS:
            continue
        scan = found.setdefault(key, ScanSummary(*key))
        name = _COUNTED[mark.kind]
        setattr(scan, name, getattr(scan, name) + 1)
    return [asdict(scan) for scan in found.values()]
