"""The resolution that two halves of the data agree on, beside that of the truth."""

import math

import numpy as np
import pytest
import torch

from ptystream.buffers.sampling import Mix
from ptystream.models.field import Box
from ptystream.recon.align import Lookup, align
from ptystream.recon.metrics import frc, soft_window
from ptystream.recon.options import NuisanceOptions, ObjectOptions, PhysicsOptions
from ptystream.recon.options_quality import QualityOptions
from ptystream.recon.reconstruction import Reconstruction
from tests.recon.general_scan import GeneralScan
from tests.recon.textured_scan import PIXEL_M, TexturedScan, run

HALVES = QualityOptions(halves=True)
SAME = 0.54
"""Correlation with the truth where two halves have half a bit: each C² = 0.17."""


def resolution_px(recon: Reconstruction) -> float:
    """Return the halves' resolution in object pixels."""
    return recon.snapshot().quality.resolution_m / PIXEL_M


def true_resolution_px(scan: TexturedScan, shot) -> float:
    """Return where the published object no longer correlates with the truth."""
    lines = (np.arange(float(n)) for n in scan.object.shape)
    made, lit = Lookup(shot.object[0].astype(complex), *lines), shot.coverage >= 0.3
    moved, _ = align(made, scan.object, lit.astype(float), max_shift_px=1)
    got = frc(moved, scan.object, (1.0, 1.0), soft_window(lit))
    below = np.flatnonzero(got.correlation[3:] < SAME) + 3
    return 0.5 / got.frequency_per_m[below[0] if len(below) else -1]


@pytest.mark.slow
@pytest.mark.parametrize("photons", [1e4, 1e5])
def test_the_resolution_is_that_of_the_truth_within_a_quarter(photons):
    scan = TexturedScan(photons, lines=16)
    recon = run(scan.reconstruction(field="auto", quality=HALVES), 500)
    truth = true_resolution_px(scan, recon.snapshot())
    assert resolution_px(recon) == pytest.approx(truth, rel=0.25)


def test_more_light_resolves_more():
    scans = [TexturedScan(photons, lines=10) for photons in (2e3, 2e4, 1e6)]
    got = [resolution_px(run(s.reconstruction(quality=HALVES), 200)) for s in scans]
    assert got[0] > 1.15 * got[1] > 1.3 * got[2]


@pytest.mark.parametrize("seed", range(3))
def test_noise_without_a_sample_has_no_resolution(seed):
    scan = TexturedScan(300, lines=10, empty=True, seed=seed)
    recon = run(scan.reconstruction(quality=HALVES), 100)
    assert math.isnan(resolution_px(recon))
    assert recon.snapshot().frc.correlation.max() < 0.8


def test_halves_with_gaps_between_their_frames_tell_nothing():
    scan = TexturedScan(1e6, step=12, lines=8)
    shot = run(scan.reconstruction(quality=HALVES), 100).snapshot()
    assert shot.frc is None
    assert math.isnan(shot.quality.resolution_m)


def test_a_half_never_sees_the_other_nor_what_is_held_out():
    scan = TexturedScan(1e4, lines=8)
    other = TexturedScan(1e4, lines=8)
    held = scan.reconstruction().store.held_out[:64]
    strange = (np.arange(64) % 2 == 1) | held
    other.counts[strange] = 7  # what the even half must not notice
    made = []
    for given in (scan, other):
        recon = given.reconstruction(quality=HALVES, field="pixels")
        recon.exposures.photons = 1.0  # one gauge for both
        half = recon.halves.both[0]
        for _ in range(20):
            half.step(1.0, Mix(fresh=0.0))
        with torch.no_grad():
            made.append(half.field.window(Box(0, 0, *scan.object.shape)))
    assert torch.equal(*made)
    assert float((made[0] - 1).abs().max()) > 0.1


def test_the_published_object_is_the_same_with_and_without_them():
    scan = TexturedScan(1e4, lines=8)
    shots = [
        run(scan.reconstruction(quality=q), 60).snapshot()
        for q in (QualityOptions(), HALVES)
    ]
    np.testing.assert_array_equal(shots[0].object, shots[1].object)
    assert shots[0].frc is None
    assert math.isnan(shots[0].quality.resolution_m)


def test_what_is_learned_of_optics_and_exposures_is_the_same_with_and_without_them():
    given = {
        "nuisance": NuisanceOptions(positions="both", intensity=True, after_steps=4),
    }
    scan, made = GeneralScan(slices=2, modes=2, background=0.05), []
    given["object"] = ObjectOptions(field="pixels", slices=2)
    given["physics"] = PhysicsOptions(background=True, slice_m=scan.slice_m)
    for quality in (QualityOptions(), HALVES):
        recon = scan.reconstruction(quality=quality, **given)
        for _ in range(16):
            recon.step()
        made.append(recon)
    plain, beside = made
    assert beside.halves.both[0].engine.steps == 4
    np.testing.assert_array_equal(plain.snapshot().object, beside.snapshot().object)
    for name in ("log_brightness", "log_scale"):
        values = [getattr(recon.nuisance, name) for recon in made]
        assert torch.equal(*values)
    moved = [recon.exposures.positions_px() for recon in made]
    np.testing.assert_array_equal(*moved)
    assert np.abs(moved[0] - plain.store.position_px[: len(moved[0])]).max() > 0.01


@pytest.mark.parametrize(("share", "steps"), [(1 / 3, 15), (0.5, 30), (0.1, 3)])
def test_they_take_their_share_of_the_steps(share, steps):
    quality = QualityOptions(halves=True, halves_share=share)
    recon = run(TexturedScan(1e4, lines=6).reconstruction(quality=quality), 60)
    taken = [half.engine.steps for half in recon.halves.both]
    assert taken[0] - taken[1] in (0, 1)
    assert sum(taken) == pytest.approx(2 * steps, abs=1)
