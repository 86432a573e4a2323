"""Snapshots to publish."""

from collections.abc import Callable

import numpy as np
import pytest

from ptystream.publish.sink import RunInfo
from ptystream.recon.snapshot import Quality, Snapshot


@pytest.fixture
def snapshot() -> Callable[..., Snapshot]:
    """Make a snapshot; keywords replace what it holds."""

    def make(shape: tuple[int, int, int] = (1, 40, 56), **given: object) -> Snapshot:
        slices, h, w = shape
        y, x = np.mgrid[:h, :w]
        plane = (1 + 0.1 * np.sin(x / 3)) * np.exp(0.3j * np.cos(y / 4))
        k = np.hypot(*(np.mgrid[:16, :16] - 8))
        probe = np.exp(-((k / 5) ** 2)) * np.exp(0.02j * k**2)
        values: dict[str, object] = {
            "object": np.repeat(plane[None], slices, 0).astype(np.complex64),
            "probe": np.stack([probe, 0.3j * probe]).astype(np.complex64),
            "coverage": np.ones((h, w), np.float32),
            "origin_m": (-1e-6, 2e-6),
            "pixel_m": (10e-9, 12e-9),
            "positions_m": np.zeros((3, 2)),
            "step": 7,
            "exposures": 30,
            "quality": Quality(loss=0.5, held_out_error=0.25, covered=0.75),
        }
        return Snapshot(**{**values, **given})  # type: ignore[arg-type]

    return make


@pytest.fixture
def info() -> Callable[..., RunInfo]:
    """Make a run; keywords become its scan's metadata."""

    def make(run: str = "run-1", scan: str = "scan-1", **meta: object) -> RunInfo:
        provenance = {
            "config": {"field": "pixels"},
            "seed": 3,
            "geometry": {"wavelength_m": 1e-10},
            "scan": meta,
        }
        return RunInfo(run, scan, 1.7e9, provenance)

    return make
