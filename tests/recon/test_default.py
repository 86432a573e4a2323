"""What the defaults are for: sparse scans, dense ones, and a defocus that is off."""

import numpy as np
import pytest

from ptystream.models.pixels import Pixels
from ptystream.recon.options import ObjectOptions, ProbeOptions
from tests.recon.lens_scan import LensScan, lens


def left(recon) -> float:
    """Return the held-out error over that of an empty object."""
    quality = recon.measure()
    return quality.held_out_error / quality.flat_error


def test_a_sparse_scan_with_an_unknown_probe_is_the_default_s():
    """36 frames, half a frame apart. Plain pixels end above an empty object."""
    scan = LensScan(lines=6, step=16)
    default = scan.ended(300, told_rad=9.0)
    plain = scan.ended(300, told_rad=9.0, object=ObjectOptions(field="pixels"))
    assert not isinstance(default.object, Pixels)
    assert left(default) < 0.8
    assert left(default) < 0.4 * left(plain)


def test_a_dense_bright_scan_ends_with_plain_pixels():
    scan = LensScan(lines=10, step=4, photons=1e6, defocus_rad=4.0)
    default = scan.ended(125, told_rad=4.4)
    plain = scan.ended(125, told_rad=4.4, object=ObjectOptions(field="pixels"))
    assert isinstance(default.object, Pixels)
    assert left(default) < 0.03
    assert left(default) < 1.2 * left(plain)
    smooth = scan.ended(125, told_rad=4.4, object=ObjectOptions(field="smooth"))
    assert left(default) < 0.6 * left(smooth)


@pytest.mark.parametrize("share", [0.5, 1.5])
def test_a_defocus_off_by_half_is_found_by_turning_the_pupil(share):
    scan = LensScan(lines=6, step=16)
    wrong = {}
    for order in (0, 4):
        recon = scan.ended(
            150,
            told_rad=share * scan.defocus_rad,
            object=ObjectOptions(field="smooth"),
            probe=ProbeOptions(aberrations=order),
        )
        wrong[order] = scan.wrong(recon)
    assert wrong[4] < 0.02
    assert wrong[0] > 0.025


def pupil(wave) -> np.ndarray:
    """Return the amplitude of a probe's Fourier transform, at unit light."""
    made = np.abs(np.fft.fft2(wave))
    return made / np.linalg.norm(made)


@pytest.mark.parametrize(
    ("step", "patient", "waits"),
    [(4, True, True), (4, False, False), (4, None, False), (16, True, False)],
)
def test_the_probe_s_pixels_wait_where_told_to_and_data_are_enough(
    step, patient, waits
):
    """36 frames: 4 px apart they hold 7 values an unknown, 16 px apart 1.5."""
    scan = LensScan(lines=6, step=step)
    told = ProbeOptions(patient=patient, aberration_steps=150)
    for steps, still in ((45, waits), (90, False)):
        recon = scan.ended(steps, told_rad=5.0, probe=told)
        change = np.abs(pupil(recon.snapshot().probe[0]) - pupil(lens(5.0))).max()
        assert (change < 1e-4) == still


@pytest.mark.parametrize(("step", "tried"), [(4, True), (16, False)])
def test_plain_pixels_are_tried_only_where_data_are_enough(step, tried):
    scan = LensScan(lines=6, step=step)
    contest = ObjectOptions(contest_steps=5)
    recon = scan.ended(0, object=contest, probe=ProbeOptions(release=0.1))
    trials = []
    for _ in range(20):
        recon.step(live=False)
        trials.append(recon.trying)
    assert any(trials) == tried
