"""How good a run's snapshots are: outside the measured time, by the same score."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ptystream.errors import FileFormatError
from ptystream.recon.score import Image, ImageScore, score
from tools.rivals.problems import Made

MIN_COVERAGE = 0.1
"""Truth is scored where a tenth of the probe's peak intensity has been."""
PARTS = ("amplitude", "phase")
Pair = tuple[float, float]


@dataclass(frozen=True)
class Point:
    """PSNR of amplitude and phase in dB at a time of the process.

    ``aligned`` has shift and ramp taken out, ``paper`` has not; ``empty`` is what an
    empty object has, aligned.
    """

    cpu_s: float
    wall_s: float
    aligned: Pair
    paper: Pair
    empty: Pair
    probe_error: float

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


def point_of(told: Mapping[str, Any]) -> Point:
    """Return a point from its JSON."""
    pairs = {name: _two(told[name]) for name in ("aligned", "paper", "empty")}
    return Point(
        told["cpu_s"], told["wall_s"], **pairs, probe_error=told["probe_error"]
    )


def judged(folder: Path, made: Made) -> list[Point]:
    """Score a run's snapshots, in order; those that can't be scored are left out."""
    if made.truth is None:
        raise FileFormatError(f"{made.cxi}: expected a truth to score against")
    points = []
    for path in sorted(folder.glob("*.npz")):
        image, cpu_s, wall_s = snapshot(path, made)
        try:
            found = score(image, made.truth, min_coverage=MIN_COVERAGE)
        except FileFormatError:
            continue
        points.append(
            Point(
                cpu_s,
                wall_s,
                _pair(found.aligned),
                _pair(found.paper),
                _pair(found.flat_aligned),
                round(found.probe_error, 4),
            )
        )
    return points


def snapshot(path: Path, made: Made) -> tuple[Image, float, float]:
    """Return a snapshot where it lies, and its processor and wall seconds."""
    with np.load(path) as file:
        origin_px, pixel_m = file["origin_px"], np.array(made.pixel_m)
        y, x = (made.centre_m + origin_px * pixel_m).tolist()
        image = Image(file["object"][None], made.pixel_m, (y, x), file["probe"])
        return image, float(file["cpu_s"]), float(file["wall_s"])


def best(points: Sequence[Point]) -> Point | None:
    """Return the point with the best mean of both; None without one.

    Settings of one competitor are compared by it, so that the better ones count.
    """
    return max(points, key=lambda p: sum(p.aligned), default=None)


def at(points: Sequence[Point], cpu_s: float) -> Point | None:
    """Return the newest point by then; None if there was none yet."""
    before = [p for p in points if p.cpu_s <= cpu_s]
    return before[-1] if before else None


def _pair(found: ImageScore) -> Pair:
    return round(found.psnr_amplitude_db, 2), round(found.psnr_phase_db, 2)


def _two(values: Sequence[float]) -> Pair:
    first, second = values
    return first, second
