"""What a scan leaves to the next, through the engine's thread and without it."""

from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch

from ptystream.publish.files import FileSink
from ptystream.publish.sink import FrameCounts
from ptystream.recon.options_start import WarmOptions
from ptystream.recon.snapshot import Quality
from ptystream.service.extras import Extras
from ptystream.service.scan import ScanRun
from ptystream.service.warm import KEPT, Warm
from ptystream.wire.messages import Exposure, Geometry
from tests.recon.small_scan import SIZE, SmallScan
from tests.service.exposures import GEOMETRY, START, config, exposure, exposures
from tests.service.test_reconstructing import (  # noqa: F401
    Bench,
    bench,
    closed,
    opened,
)

SHAPE = (SIZE, SIZE)
Y, X = np.mgrid[:SIZE, :SIZE] - SIZE / 2
CHANGED = np.exp(-(Y**2 + 3 * X**2) / 60 - 0.05j * X**2)
"""The beam after somebody has changed the optics."""
CRUDE = Extras(probe=np.exp(-(Y**2 + X**2) / 45)[None].astype(np.complex64))
"""A first guess: rather too wide, and in focus."""


def of(probe: np.ndarray, scan: str) -> list[Exposure]:
    """Return a scan with this beam."""
    small = SmallScan(seed=3)
    small.probe = probe
    counts, places_m = small.counts(1e5), small.centres_px * 10e-9
    return [
        exposure(n, c, (float(p[0]), float(p[1])), scan)
        for n, (c, p) in enumerate(zip(counts, places_m, strict=True))
    ]


def reconstructed(
    taken: list[Exposure], warm: Warm | None, *flags: str, steps: int, name="r1"
) -> ScanRun:
    told = config("object.field=pixels", "start.frames=16", *flags)
    start = replace(START, scan=taken[0].frame.scan)
    run = ScanRun(start, told, run=name, extras=CRUDE, warm=warm)
    for one in taken:
        run.add(one)
    while run.recon is not None and run.recon.engine.steps < steps:
        assert run.step()
    return run


def kept(run: ScanRun, warm: Warm) -> None:
    """Leave what a run has learned."""
    snapshot = run.snapshot()
    assert snapshot is not None
    assert run.recon is not None
    warm.keep(run.info.run, run.geometry, run.recon, snapshot)


def error(run: ScanRun) -> float:
    snapshot = run.snapshot()
    assert snapshot is not None
    return snapshot.quality.held_out_error


@pytest.fixture(scope="module")
def warm() -> Warm:
    """What a scan with the usual beam has left."""
    warm = Warm(WarmOptions())
    kept(reconstructed(exposures(), warm, steps=300), warm)
    return warm


def test_the_same_beam_s_second_scan_is_ahead_at_once(warm):
    taken = of(SmallScan().probe, "scan-2")
    with_it, without = (reconstructed(taken, w, steps=15) for w in (warm, None))
    snapshot = with_it.snapshot()
    assert snapshot is not None
    assert snapshot.first_probe == "last scan r1"
    assert error(with_it) < 0.5 * error(without)


def test_another_beam_s_is_dropped_and_nothing_is_lost(warm):
    taken = of(CHANGED, "scan-2")
    with_it, without = (reconstructed(taken, w, steps=60) for w in (warm, None))
    snapshot = with_it.snapshot()
    assert snapshot is not None
    assert "last scan" not in snapshot.first_probe
    assert error(with_it) == pytest.approx(error(without), rel=0.2)


def test_offline_nothing_is_handed_on():
    run = reconstructed(exposures(), None, steps=1)
    assert run.recon is not None
    assert run.recon.setting.last is None


@pytest.mark.parametrize(
    ("changes", "used"),
    [
        ({}, True),
        ({"wavelength_m": GEOMETRY.wavelength_m * 1.0005}, True),
        ({"wavelength_m": GEOMETRY.wavelength_m * 1.01}, False),
        ({"distance_m": GEOMETRY.distance_m * 2}, False),
        ({"detector_pixel_m": (75e-6, 55e-6)}, False),
    ],
)
def test_only_the_same_geometry_s_is_offered(warm, changes, used):
    geometry = replace(GEOMETRY, **changes)
    assert (warm.offer(geometry, SHAPE) is not None) == used
    assert warm.offer(geometry, (SIZE * 2, SIZE * 2)) is None


def learned(run: ScanRun, **changes: object):
    snapshot = run.snapshot()
    assert snapshot is not None
    good = Quality(held_out_error=0.1, flat_error=0.5, probe_released=True)
    return replace(snapshot, quality=replace(good, **changes))


@pytest.fixture(scope="module")
def run() -> ScanRun:
    return reconstructed(exposures(), None, steps=2)


@pytest.mark.parametrize(
    "bad",
    [
        {"probe_released": False},
        {"held_out_error": 0.6},
        {"held_out_error": float("nan")},
    ],
)
def test_a_probe_that_was_not_learned_is_not_left(run, bad):
    warm = Warm(WarmOptions())
    warm.keep("r1", GEOMETRY, run.recon, learned(run, **bad))
    assert warm.offer(GEOMETRY, SHAPE) is None


def at(distance_m: float) -> Geometry:
    return replace(GEOMETRY, distance_m=distance_m)


def test_the_newest_of_a_geometry_and_few_geometries_are_kept(run):
    warm, told = Warm(WarmOptions()), learned(run)
    for n in range(KEPT + 1):
        warm.keep(f"r{n}", at(1.0 + n), run.recon, told)
    warm.keep("again", at(3.0), run.recon, told)
    assert warm.offer(at(1.0), SHAPE) is None
    found = warm.offer(at(3.0), SHAPE)
    assert found is not None
    assert found.origin == "last scan again"
    assert sum(warm.offer(at(1.0 + n), SHAPE) is not None for n in range(20)) == KEPT


def test_it_can_be_switched_off_and_forgotten(run):
    off, on = Warm(WarmOptions(probe=False)), Warm(WarmOptions())
    for warm in off, on:
        warm.keep("r1", GEOMETRY, run.recon, learned(run))
    assert off.offer(GEOMETRY, SHAPE) is None
    assert on.offer(GEOMETRY, SHAPE) is not None
    on.forget()
    assert on.offer(GEOMETRY, SHAPE) is None


@pytest.mark.parametrize("positions", [True, False])
def test_positions_go_along_if_told(positions):
    flags = ("nuisance.positions=affine",)
    run = reconstructed(exposures(), None, *flags, steps=2)
    assert run.recon is not None
    assert run.recon.nuisance is not None
    with torch.no_grad():
        run.recon.nuisance.positions.affine[0] = 0.01
    warm = Warm(WarmOptions(positions=positions))
    warm.keep("r1", GEOMETRY, run.recon, learned(run))
    found = warm.offer(GEOMETRY, SHAPE)
    assert found is not None
    if positions:
        assert found.affine is not None
        assert float(found.affine[0]) == pytest.approx(0.01)
    else:
        assert found.affine is None


def test_the_result_file_says_whose_probe_it_was(warm, tmp_path):
    run = reconstructed(of(SmallScan().probe, "scan-2"), warm, steps=3)
    sink = FileSink(tmp_path)
    sink.start(run.info)
    run.cut("enough")
    snapshot, end = run.result()
    assert snapshot is not None
    sink.stop(snapshot, FrameCounts(), end)
    with h5py.File(sink.path(run.info)) as file:
        assert file.attrs["first_probe"] == "last scan r1"
        assert file.attrs["rung"] == "reconstruction"


def whole(scan: str) -> list:
    return [opened(scan), *exposures(scan), closed(scan)]


@pytest.mark.parametrize("forgotten", [False, True])
def test_a_service_hands_on_until_it_is_told_to_forget(bench, forgotten):  # noqa: F811
    b: Bench = bench("object.field=pixels", "refine.max_s=2", extras=CRUDE)
    b.backlog.put(whole("scan-1"))
    (first,) = b.ended()
    if forgotten:
        b.engine.warm.forget()
    b.backlog.put(whole("scan-2"))
    b.ended()
    b.sink.close()
    told = [s.first_probe for s, _, _ in b.notes.stops if s is not None]
    assert "last scan" not in told[0]
    assert told[1] == told[0] if forgotten else f"last scan {first.info.run}"
