"""The predicted error of each pixel's phase, beside the actual one."""

from itertools import pairwise

import numpy as np
import pytest

from ptystream.recon.align import Lookup, align
from ptystream.recon.confidence import Witnesses, confidence, phase_error_rad
from ptystream.recon.options_quality import QualityOptions
from tests.recon.textured_scan import TexturedScan, run

HALF_RAD = QualityOptions().phase_rad


def predicted_rad(worth: np.ndarray) -> np.ndarray:
    """Return the σ that a confidence stands for."""
    return HALF_RAD * np.sqrt(1 / np.maximum(worth, 1e-12) - 1)


def actual_rad(scan: TexturedScan, shot) -> np.ndarray:
    """Return the phase's error, but for offset, ramp and shift."""
    lines = (np.arange(float(n)) for n in scan.object.shape)
    made = Lookup(shot.object[0].astype(complex), *lines)
    lit = (shot.coverage >= 0.3).astype(float)
    moved, _ = align(made, scan.object, lit, max_shift_px=1)
    return np.angle(moved * scan.object.conj())


@pytest.mark.parametrize("photons", [3e3, 3e4, 1e6])
@pytest.mark.parametrize(
    ("step", "lines"), [pytest.param(4, 14, marks=pytest.mark.slow), (8, 8)]
)
def test_the_predicted_error_is_the_actual_one_within_a_factor_of_two(
    photons, step, lines
):
    scan = TexturedScan(photons, step=step, lines=lines, finest=0.15)
    shot = run(scan.reconstruction(field="auto"), 300).snapshot()
    sigma, error = predicted_rad(shot.confidence), actual_rad(scan, shot)
    lit = shot.coverage >= 0.3
    edges = np.quantile(sigma[lit], np.linspace(0, 1, 6))
    for low, high in pairwise(edges):
        inside = lit & (sigma >= low) & (sigma <= high)
        ratio = np.sqrt(np.mean(error[inside] ** 2) / np.mean(sigma[inside] ** 2))
        assert 0.5 < ratio < 2


def test_what_is_dark_has_no_confidence_and_more_light_has_more():
    scan = TexturedScan(1e4, lines=8)
    shot = run(scan.reconstruction(), 100).snapshot()
    assert shot.confidence.dtype == np.float32
    assert shot.confidence.shape == shot.coverage.shape
    assert shot.confidence.min() >= 0
    assert shot.confidence.max() <= 1
    assert shot.confidence[shot.coverage < 1e-3].max() < 0.01
    brighter = run(TexturedScan(1e6, lines=8).reconstruction(), 100).snapshot()
    lit = shot.coverage >= 1
    assert brighter.confidence[lit].mean() > shot.confidence[lit].mean() > 0.3


def test_nothing_held_out_is_nothing_known():
    shot = run(TexturedScan(1e4, lines=6).reconstruction(held_out=0.0), 5).snapshot()
    assert shot.confidence is None


def evenly_lit_rad(photons: float, excess: float = 1.0, believed: float = 1.0):
    """Return σ where ten exposures lit a place evenly, misfit times ``excess``."""
    dose = np.zeros((12, 12))
    dose[2:10, 2:10] = 10 * photons
    light = np.full((8, 8), photons)
    expected = 0.5 * 64 / 10  # ½ Σ of its light over that of all
    seen = Witnesses(
        np.array([excess * expected]), np.array([believed]), np.array([[2, 2]])
    )
    return phase_error_rad(dose, np.ones_like(dose), light, seen)


@pytest.mark.parametrize("photons", [4.0, 1e4])
def test_photon_noise_alone_gives_the_photon_limit(photons):
    sigma = evenly_lit_rad(photons)
    assert sigma[5, 5] == pytest.approx((20 * photons) ** -0.5, rel=1e-5)
    assert np.isinf(sigma[0, 0])
    assert confidence(sigma, 0.1)[0, 0] == 0


def test_misfit_and_saturation_make_it_worse():
    plain = evenly_lit_rad(100.0)[5, 5]
    assert evenly_lit_rad(100.0, excess=9.0)[5, 5] == pytest.approx(3 * plain)
    assert evenly_lit_rad(100.0, believed=0.25)[5, 5] == pytest.approx(2 * plain)
    assert 0 < evenly_lit_rad(100.0, excess=-3.0)[5, 5] < plain


def test_a_place_where_exposures_misfit_is_trusted_less():
    dose, light = np.full((8, 16), 500.0), np.full((8, 8), 50.0)
    seen = Witnesses(np.array([4.0, 40.0]), np.ones(2), np.array([[0, 0], [0, 8]]))
    sigma = phase_error_rad(dose, np.ones_like(dose), light, seen)
    assert sigma[4, 12] > 1.3 * sigma[4, 4]


def test_a_witness_that_alone_has_lit_what_it_saw_is_not_heard_beside_others():
    dose, light = np.full((8, 16), 500.0), np.full((8, 8), 50.0)
    dose[:, 12:] = 60.0  # hardly anybody but the second witness
    excess, corners = np.array([3.2, 900.0]), np.array([[0, 0], [0, 8]])
    both = Witnesses(excess, np.ones(2), corners)
    one = Witnesses(excess[:1], np.ones(1), corners[:1])
    ones = np.ones_like(dose)
    got, alone = (phase_error_rad(dose, ones, light, seen) for seen in (both, one))
    np.testing.assert_array_equal(got, alone)
    only = Witnesses(excess[1:], np.ones(1), corners[1:])
    assert phase_error_rad(dose, ones, light, only)[4, 4] > 2 * got[4, 4]


def test_a_confidence_of_a_half_is_at_the_error_that_was_set():
    got = confidence(np.array([[0.0, 0.2, np.inf]]), 0.2)
    assert got.tolist() == [[1.0, 0.5, 0.0]]
