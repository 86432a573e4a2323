"""Clean scans are not complained of, and each fault is named, by the first 100 frames.

Two lines or a bit more of each, simulated; what was put in is known, and no more.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from itertools import islice
from typing import Any

import numpy as np
import pytest

from ptystream.config import load
from ptystream.recon.findings import Finding
from ptystream.service.offline import StepClock
from ptystream.service.scan import ScanRun
from ptystream.sim.experiment import build
from ptystream.sim.settings import preset
from ptystream.wire.messages import Exposure, Frame, ScanStart

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

FRAMES = 100
SIZE = 64
CONFIG = load(
    environment={},
    flags=[
        "engine.threads=1",
        "engine.batch=8",
        "object.field=pixels",
    ],
)


def scan(**changes: Any) -> dict[str, Any]:
    return {"shape": (5, 40), "overlap": 0.88, **changes}


def pictures(amplitude: str, phase: str) -> dict[str, str]:
    return {"amplitude_picture": amplitude, "phase_picture": phase}


CLEAN: dict[str, dict[str, Any]] = {
    "raster": {"scan": scan(overlap=0.85)},
    "flies back": {
        "scan": scan(overlap=0.9, snake=False),
        "sample": pictures("star", "particles"),
    },
    "dense": {
        "scan": scan(overlap=0.95),
        "sample": pictures("circuit", "cells"),
    },
    "spiral": {
        "scan": {"shape": (11, 11), "overlap": 0.85, "pattern": "fermat"},
        "sample": pictures("particles", "star"),
    },
    "half overlap": {
        "scan": {"shape": (11, 11), "overlap": 0.5},
        "optics": {"defocus_m": 300e-6},
    },
    "ten photons": {
        "scan": scan(overlap=0.9),
        "sample": pictures("star", "particles"),
        "detector": {"noise": "scaled_poisson", "alpha": 10.0},
    },
    "read-out noise": {
        "scan": scan(),
        "detector": {"readout_counts": 1.0},
        "optics": {"photons_per_frame": 1e5},
    },
    "defocus half as large again": {
        "scan": scan(),
        "sample": pictures("particles", "star"),
        "optics": {"defocus_error": 0.5},
    },
    "half the defocus": {
        "scan": {"shape": (10, 12), "overlap": 0.85},
        "sample": pictures("particles", "star"),
        "optics": {"defocus_error": -0.5},
    },
    "blurred": {"scan": scan(overlap=0.9, blur_points=8)},
    "three modes": {
        "scan": scan(overlap=0.9),
        "sample": pictures("star", "particles"),
        "optics": {"mode_powers": (0.7, 0.2, 0.1)},
    },
    "a stage off by a pixel": {
        "scan": scan(overlap=0.85, shake_px=2.0, jitter_m=26e-9),
        "encoder": {"noise_m": 80e-9},
        "sample": pictures("circuit", "cells"),
    },
}


@lru_cache(maxsize=1)
def simulated(name: str, seed: int) -> tuple[ScanStart, np.ndarray, np.ndarray]:
    """A scan's start, its frames, and where they were taken, two lines at least."""
    made = build(preset("dense", {**CLEAN[name], "seed": seed}))
    frames = np.stack(list(islice(made.frames(0), 220)))
    start = ScanStart(
        "s", "det", (SIZE, SIZE), "<u2", geometry=made.geometry, meta=made.meta
    )
    return start, frames, made.positions_m(0)[: len(frames)]


def verdict(
    start: ScanStart, frames: np.ndarray, places: np.ndarray, count: int
) -> tuple[Finding, ...]:
    """What is found by the first frames whose places are known."""
    run = ScanRun(start, CONFIG, run="r")
    for exposure in islice(exposures(frames, places), count):
        run.add(exposure)
    assert run.recon is not None
    health = run.recon.health
    while not health.rounds:
        run.step()
    while health.busy:
        health.advance(1000)  # trials, as beside 125 times as many steps
        run.step()
    return health.findings


def exposures(frames: np.ndarray, places: np.ndarray) -> Iterator[Exposure]:
    for index, (counts, place) in enumerate(zip(frames, places, strict=True)):
        if np.isfinite(place).all():
            at = (float(place[0]), float(place[1]))
            yield Exposure(Frame("s", index, counts), at, at, at)


@pytest.mark.parametrize("name", CLEAN)
def test_clean_scans_are_not_complained_of(name):
    start, frames, places = simulated(name, 1)
    assert verdict(start, frames, places, FRAMES) == ()


def at(places: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Places at indices, NaN beyond the scan."""
    known = np.arange(len(places))
    told = [np.interp(index, known, p, np.nan, np.nan) for p in places.T]
    return np.stack(told, 1)


NUMBER = np.arange(200)
LAGS = (1, -1, 2, -2, 3, -3, 4, -4, 5, -5, 7)
PLACES = {
    **{
        f"late by {k}": ("positions lag", lambda p, k=k: at(p, NUMBER - k))
        for k in LAGS
    },
    "y is x": ("axes swapped", lambda p: p[:, ::-1]),
    "y upside down": ("axis mirrored", lambda p: p * [-1, 1]),
    "x upside down": ("axis mirrored", lambda p: p * [1, -1]),
    "turned": ("axes turned", lambda p: p[:, ::-1] * [-1, 1]),
    "both upside down": ("conjugate twin", lambda p: -p),
    **{
        f"{s} times": ("wrong scale", lambda p, s=s: p * s)
        for s in (0.5, 0.67, 0.9, 1.1, 1.5, 2.0)
    },
    "x 1.25 times": ("wrong scale", lambda p: p * [1, 1.25]),
    "twice as fast": ("wrong rate", lambda p: at(p, NUMBER * 2.0)),
    "half as fast": ("wrong rate", lambda p: at(p, NUMBER * 0.5)),
}


@pytest.mark.parametrize("fault", PLACES)
def test_wrong_positions_are_named(fault):
    """At half the speed two lines take twice the frames."""
    start, frames, places = simulated("read-out noise", 5)
    name, wrong = PLACES[fault]
    count = 200 if fault == "half as fast" else FRAMES
    found = verdict(start, frames[:200], wrong(places[:200]), count)
    assert [f.fault for f in found] == [name]


def test_a_run_that_stalls_waits_for_the_verdict():
    start, frames, places = simulated("read-out noise", 5)
    late = at(places[:200], NUMBER - 2)
    clock, engine = StepClock(), replace(CONFIG.engine, batch=64)
    config = CONFIG.model_copy(update={"engine": engine})
    run = ScanRun(start, config, run="r", clock=clock)
    for exposure in islice(exposures(frames, late), 200):
        run.add(exposure)
    run.end("complete")
    while not run.done:
        run.step()
        clock.tick()
    snapshot, end = run.result()
    assert end.refined == "held-out quality stopped improving"
    assert snapshot is not None
    assert [f.fault for f in snapshot.health] == ["positions lag"]
    assert "add 2 to positions.lag" in snapshot.health[0].detail


DETECTORS = {
    "transposed": ("axes swapped", lambda f: f.transpose(0, 2, 1)),
    "rows reversed": ("axis mirrored", lambda f: np.roll(f[:, ::-1], 1, 1)),
    "columns reversed": ("axis mirrored", lambda f: np.roll(f[:, :, ::-1], 1, 2)),
    "upside down": (
        "conjugate twin",
        lambda f: np.roll(f[:, ::-1, ::-1], (1, 1), (1, 2)),
    ),
}


@pytest.mark.parametrize("fault", DETECTORS)
def test_a_detector_that_is_turned_over_is_named(fault):
    start, frames, places = simulated("read-out noise", 5)
    name, wrong = DETECTORS[fault]
    turned = np.ascontiguousarray(wrong(frames))
    found = verdict(start, turned, places, FRAMES)
    assert [f.fault for f in found] == [name]
