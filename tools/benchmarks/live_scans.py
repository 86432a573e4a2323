"""The fixed scans of ``tools/bench live``: what is streamed, how fast, what is told.

One specimen, probe and seed for all of them, none of them those that defaults were
chosen on (the demo's pictures, seed and zone plate; ``overlap-50``'s circuit).
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ptystream.presets import merged
from ptystream.sim.settings import SimulateSettings, preset
from tools.benchmarks.live_probe import Spoil, half_size, shifted

Changes = Mapping[str, Any]

BASE: Changes = {
    "seed": 23,
    "sample": {"amplitude_picture": "particles", "phase_picture": "cells"},
    "optics": {"outer_zone_m": 80e-9, "stop_m": 40e-6, "defocus_m": 220e-6},
}
"""The probe: a ring 13 px wide with a bright middle, in windows of 64 px. Its defocus
on the wire is a fifth too large, as everywhere in the simulator."""
CLEAN: Changes = {
    "optics": {"photons_per_frame": 1e7},
    "detector": {"noise": "none", "dtype": "uint32"},
}
MIDDLING: Changes = {"scan": {"shape": [20, 20], "overlap": 0.85}}
"""400 frames, steps of 10 px."""
DENSE: Changes = {"scan": {"shape": [60, 60], "overlap": 0.95}}
"""3,600 frames, steps of 3 px: 241 px across."""
TURNING = 0.2
"""Share of a scan's time that its turn-arounds take."""
FLAT_OUT_HZ = 1000.0
STORE = 360


@dataclass(frozen=True)
class Scan:
    """What is streamed, and what service and offline run are told of it.

    Attributes:
        name: for ``--only``.
        about: one line for the report.
        changes: of the simulator's ``dense`` preset, over ``BASE``.
        seconds: from the first frame to the last.
        refine_s: the service refines at most so long after the last frame.
        offline_s: the offline run's limit; it is to stop by itself before.
        told: settings for the service and the offline run.
        spoil: makes the first probe, which is then given as a file, a wrong one.
        better_db: by how much the default is to beat plain pixels.
        close_db: by how much 2 s after the last frame may be worse than offline.
        short: a scan with the same settings that is ten times shorter, for memory.
    """

    name: str
    about: str
    changes: Changes
    seconds: float = 18.0
    refine_s: float = 10.0
    offline_s: float = 30.0
    told: tuple[str, ...] = ()
    spoil: Spoil | None = None
    better_db: float | None = None
    close_db: float | None = None
    short: "Scan | None" = field(default=None, repr=False)

    def settings(self, *, hurry: float = 1.0) -> SimulateSettings:
        """Return the beamline's settings, so many times as fast."""
        return preset("dense", self._changes(hurry))

    def flags(self, *, hurry: float | None = 1.0) -> list[str]:
        """Return the same as flags of ``ptystream simulate``; None: flat out."""
        changes = self._changes(hurry)
        return ["--preset=dense", *(f"--set={flag}" for flag in _flags(changes))]

    @property
    def frames_mib(self) -> float:
        """Size of all its frames as they are counted."""
        settings = self.settings()
        lines, a_line = settings.scan.shape
        a_frame = (
            settings.detector.size_px**2 * np.dtype(settings.detector.dtype).itemsize
        )
        return lines * a_line * a_frame / 2**20

    def _changes(self, hurry: float | None) -> dict[str, Any]:
        told = merged(BASE, self.changes)
        lines, a_line = told["scan"]["shape"]
        pace = {"rate_hz": FLAT_OUT_HZ, "line_pause_s": 0.0}
        if hurry is not None:
            seconds = self.seconds / hurry
            pace = {
                "rate_hz": lines * a_line / ((1 - TURNING) * seconds),
                "line_pause_s": TURNING * seconds / (lines - 1),
            }
        return merged(told, {"scan": pace})


def _flags(tree: Changes, above: str = "") -> Iterator[str]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flags(value, f"{above}{key}.")
        else:
            yield f"{above}{key}={json.dumps(value)}"


def _wrong(name: str, about: str, changes: Changes, spoil: Spoil | None) -> Scan:
    return Scan(name, about, merged(MIDDLING, changes), spoil=spoil)


def _sparse(name: str, side: int, overlap: float) -> Scan:
    raster = {"scan": {"shape": [side, side], "overlap": overlap}}
    about = f"{side**2} frames, {overlap:.0%} array overlap, clean"
    return Scan(name, about, merged(CLEAN, raster), better_db=3.0)


_SHORT = Scan(
    "short",
    f"{19**2} frames of the same area",
    merged(CLEAN, {"scan": {"shape": [19, 19], "overlap": 0.85}}),
    seconds=3.0,
    told=(f"engine.store={STORE}",),
)

SCANS: dict[str, Scan] = {
    scan.name: scan
    for scan in (
        Scan(
            "dense",
            "3,600 frames, 95 % array overlap, 241 px, clean",
            merged(CLEAN, DENSE),
            seconds=60.0,
            refine_s=15.0,
            offline_s=60.0,
            close_db=1.0,
        ),
        _sparse("half", 8, 0.5),
        _sparse("sparse", 6, 0.3),
        Scan(
            "low-dose",
            "400 frames, 85 %, 10,000 photons each",
            merged(MIDDLING, {"optics": {"photons_per_frame": 1e4}}),
            better_db=3.0,
        ),
        Scan(
            "mixed",
            "400 frames, 85 %, at most 10 photons a pixel, and a deviation of 100",
            merged(
                merged(CLEAN, MIDDLING), {"detector": {"noise": "mixed", "alpha": 10.0}}
            ),
        ),
        _wrong(
            "defocus",
            "400 frames, 85 %, first probe of 1.5 times the defocus",
            {"optics": {"defocus_error": 0.5}},
            None,
        ),
        _wrong("shifted", "400 frames, 85 %, first probe 3 px aside", {}, shifted),
        _wrong(
            "half-size", "400 frames, 85 %, first probe half as large", {}, half_size
        ),
        Scan(
            "fly",
            "1,600 frames, 92 %, the stage moves 5 px in each exposure",
            {"scan": {"shape": [40, 40], "overlap": 0.92, "blur_points": 8}},
            seconds=24.0,
            told=("physics.fly_points=3",),
        ),
        Scan(
            "long",
            f"as dense in half the time, a store of {STORE}",
            merged(CLEAN, DENSE),
            seconds=30.0,
            told=(f"engine.store={STORE}",),
            short=_SHORT,
        ),
    )
}
"""What is streamed, by name, in this order."""
QUICK = ("dense", "half")
"""Those of ``--quick``."""
