"""Exposures of a small object, as ingest would hand them over."""

from dataclasses import replace
from typing import Any

import numpy as np

from ptystream.config import Config, load
from ptystream.wire.messages import Exposure, Frame, Geometry, ScanStart
from tests.recon.small_scan import SIZE, SmallScan

PIXEL_M = 10e-9
GEOMETRY = Geometry(1e-10, SIZE * 75e-6 * PIXEL_M / 1e-10, (75e-6, 75e-6))
"""An object pixel of 10 nm for 24 detector pixels of 75 um."""
START = ScanStart("scan-1", "det", (SIZE, SIZE), "<u2", geometry=GEOMETRY)


def exposures(scan: str = "scan-1") -> list[Exposure]:
    """Return 36 exposures on a raster of 4 px."""
    small = SmallScan()
    places_m = small.centres_px * PIXEL_M
    return [
        exposure(index, counts, (float(y), float(x)), scan)
        for index, (counts, (y, x)) in enumerate(
            zip(small.counts(1e5), places_m, strict=True)
        )
    ]


def exposure(
    index: int,
    counts: np.ndarray,
    at_m: tuple[float, float] = (0.0, 0.0),
    scan: str = "scan-1",
) -> Exposure:
    """Return one exposure of a stage that stands still."""
    return Exposure(Frame(scan, index, counts), at_m, at_m, at_m)


def moved(exposure: Exposure, at_m: tuple[float, float]) -> Exposure:
    """Return the exposure, as if taken elsewhere."""
    return replace(exposure, start_m=at_m, mean_m=at_m, end_m=at_m)


def config(*flags: str) -> Config:
    """Return a configuration for one core and little time."""
    quick = ("engine.threads=1", "engine.held_out=0.2", "refine.max_s=0.3")
    return load(environment={}, flags=[*quick, "refine.check_s=0.05", *flags])


class Clock:
    """Moves only when told."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def start(**changes: Any) -> ScanStart:
    """Return a scan's start with changes."""
    return replace(START, **changes)
