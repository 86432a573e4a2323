"""From exposures to snapshots: gating, quality, coverage, growth, bounded memory."""

import numpy as np
import pytest
import torch

from ptystream.models.field import Box
from ptystream.recon.options import (
    EngineOptions,
    ObjectOptions,
    ProbeOptions,
    ReconOptions,
)
from ptystream.recon.reconstruction import FIRST, Reconstruction, Setting
from tests.recon.small_scan import SIZE, SmallScan

PIXEL_M = (2e-8, 2e-8)
AUTO, LEARNED = ObjectOptions(), ProbeOptions()


def a_reconstruction(
    scan: SmallScan, *, object=AUTO, probe=LEARNED, **engine
) -> Reconstruction:
    setting = Setting(SIZE, PIXEL_M, torch.from_numpy(scan.probe)[None])
    options = ReconOptions(
        object=object,
        probe=probe,
        engine=EngineOptions(**{"batch": 16, **engine}),
    )
    return Reconstruction(setting, options)


def feed(recon: Reconstruction, scan: SmallScan, count: int | None = None) -> None:
    counts = scan.counts(2e5)
    for i, place in enumerate(scan.centres_px[:count]):
        recon.add(i, counts[i], tuple(place * PIXEL_M))


def test_a_scan_is_recovered_and_held_out_frames_say_so():
    scan = SmallScan(lines=8)
    recon = a_reconstruction(scan, held_out=0.15)
    feed(recon, scan)
    before = None
    for n in range(250):
        recon.step(live=False)
        if n == 0:
            before = recon.measure()
    quality = recon.measure()
    assert quality.held_out_error < 0.2 * quality.flat_error
    assert quality.held_out_error < 0.3 * before.held_out_error
    assert quality.covered == pytest.approx(1)
    snapshot = recon.snapshot()
    y, x = (round(v / p) for v, p in zip(snapshot.origin_m, PIXEL_M, strict=True))
    assert (y, x) == (0, 0)
    inside = slice(SIZE // 2, scan.side - SIZE // 2)
    made, truth = snapshot.object[0][inside, inside], scan.object[inside, inside]
    agreement = abs(np.vdot(made, truth)) / np.linalg.norm(made) / np.linalg.norm(truth)
    assert agreement > 0.998


def test_the_snapshot_is_placed_in_metres_wherever_the_scan_lies():
    scan = SmallScan()
    recon = a_reconstruction(scan)
    counts = scan.counts(1e5)
    for i, place in enumerate(scan.centres_px - np.array([1000, -500])):
        recon.add(i, counts[i], tuple(place * PIXEL_M))
    recon.step()
    snapshot = recon.snapshot()
    assert snapshot.origin_m == pytest.approx((-1000 * 2e-8, 500 * 2e-8))
    assert snapshot.object.shape == (1, scan.side, scan.side)
    assert snapshot.coverage.shape == (scan.side, scan.side)
    assert snapshot.positions_m.shape == (len(scan.corners), 2)


def test_nothing_is_learned_before_the_first_few_exposures():
    scan = SmallScan()
    recon = a_reconstruction(scan)
    feed(recon, scan, FIRST - 1)
    assert recon.step() is None
    assert recon.snapshot() is None


def test_the_probe_is_held_while_only_a_thin_band_is_lit():
    scan = SmallScan(lines=6)
    recon = a_reconstruction(scan, probe=ProbeOptions(release=0.5))
    feed(recon, scan, 12)  # two lines: 4 px high, 20 wide
    first = recon.snapshot().probe
    for _ in range(10):
        recon.step()
    assert not recon.released
    np.testing.assert_array_equal(recon.snapshot().probe, first)
    for i in range(12, 36):
        recon.add(i, scan.counts(2e5)[i], tuple(scan.centres_px[i] * PIXEL_M))
    for _ in range(10):
        recon.step()
    assert recon.released
    assert np.abs(recon.snapshot().probe - first).max() > 0


def test_a_known_probe_is_never_learned():
    scan = SmallScan()
    recon = a_reconstruction(scan, probe=ProbeOptions(known=True, release=0))
    feed(recon, scan)
    first = recon.snapshot().probe
    for _ in range(10):
        recon.step()
    np.testing.assert_array_equal(recon.snapshot().probe, first)


def test_positions_between_pixels_are_taken_as_they_are():
    """The same scan seen 0.4 px aside: the object comes out 0.4 px aside."""
    scan = SmallScan(lines=8)
    recon = a_reconstruction(scan, probe=ProbeOptions(known=True), held_out=0.15)
    counts = scan.counts(2e5)
    for i, place in enumerate(scan.centres_px + np.array([0.4, 0.0])):
        recon.add(i, counts[i], tuple(place * PIXEL_M))
    for _ in range(200):
        recon.step(live=False)
    quality = recon.measure()
    assert quality.held_out_error < 0.2 * quality.flat_error


def test_memory_is_that_of_the_store_however_long_the_scan():
    scan = SmallScan(lines=8)
    recon = a_reconstruction(scan, store=20)
    feed(recon, scan)
    stats = recon.store_stats()
    assert (stats.frames, stats.evicted) == (20, 44)
    assert recon.step() is not None


@pytest.mark.parametrize("field", ["smooth", "pixels"])
def test_a_nan_field_leaves_the_last_finite_snapshot_published(field):
    scan = SmallScan()
    recon = a_reconstruction(scan, object=ObjectOptions(field=field), held_out=0.15)
    feed(recon, scan)
    recon.step()
    good = recon.snapshot()
    canvas = getattr(recon.object, "inner", recon.object).canvas
    rows, cols = canvas.slices(Box(30, 30, 1, 1))
    canvas.values[0, rows, cols] = float("nan")
    assert recon.snapshot() is good
    assert np.isnan(recon.measure().held_out_error)


def test_dead_pixels_change_nothing():
    scan = SmallScan()
    mask = np.ones((SIZE, SIZE), bool)
    mask[5, 7] = mask[12, 12] = False
    setting = Setting(SIZE, PIXEL_M, torch.from_numpy(scan.probe)[None], mask)
    made = []
    for broken in (0, 60_000):
        recon = Reconstruction(setting, ReconOptions(engine=EngineOptions(batch=16)))
        counts = scan.counts(2e5)
        counts[:, ~mask] = broken
        for i, place in enumerate(scan.centres_px):
            recon.add(i, counts[i], tuple(place * PIXEL_M))
        for _ in range(20):
            recon.step()
        made.append(recon.snapshot())
    np.testing.assert_array_equal(made[0].object, made[1].object)
    assert made[0].quality == made[1].quality


def test_same_seed_same_result():
    scan = SmallScan()
    made = []
    for _ in range(2):
        recon = a_reconstruction(scan, seed=5)
        feed(recon, scan)
        for _ in range(20):
            recon.step()
        made.append(recon.snapshot().object)
    np.testing.assert_array_equal(*made)


def test_a_beam_that_flickers_does_no_harm_where_a_monitor_tells():
    scan = SmallScan(lines=8)
    rng = np.random.default_rng(3)
    strength = rng.uniform(0.5, 1.5, len(scan.corners))
    counts = rng.poisson(scan.intensities() * (2e5 / 30) * strength[:, None, None])
    wrong = {}
    for told in (True, False):
        recon = a_reconstruction(scan, held_out=0.15, object=ObjectOptions("pixels"))
        for i, place in enumerate(scan.centres_px):
            monitor = 7e3 * strength[i] if told else np.nan
            recon.add(
                i, counts[i].astype(np.uint16), tuple(place * PIXEL_M), monitor=monitor
            )
        for _ in range(80):
            recon.step(live=False)
        wrong[told] = recon.measure().held_out_error
    assert wrong[True] < 0.3 * wrong[False]
