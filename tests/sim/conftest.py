"""A beamline small and quick enough for a test."""

from collections.abc import Callable
from typing import Any

import pytest

from ptystream.sim.settings import SimulateSettings, preset

Tiny = Callable[..., SimulateSettings]


@pytest.fixture
def tiny() -> Tiny:
    """Make settings of 4 lines of 5 patterns of 32x32; keywords change a group."""

    def make(**changes: Any) -> SimulateSettings:
        base: dict[str, Any] = {
            "optics": {"outer_zone_m": 100e-9, "photons_per_frame": 1e5},
            "scan": {"shape": (4, 5), "overlap": 0.8, "line_pause_s": 0.02},
            "detector": {"size_px": 32, "address": "tcp://127.0.0.1:0"},
            "encoder": {"address": "tcp://127.0.0.1:0", "lag_s": 0.05},
            "sample": {"amplitude_picture": "star", "phase_picture": "particles"},
            "wait_s": 10.0,
        }
        base["scan"]["rate_hz"] = 200.0
        for key, value in changes.items():
            if isinstance(value, dict):
                base[key] = {**base.get(key, {}), **value}
            else:
                base[key] = value
        return preset("dense", base)

    return make
