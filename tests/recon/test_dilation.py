"""A probe's size from the mean pattern."""

import math

import numpy as np
import pytest
import torch

from ptystream.physics.propagate import far_field, far_field_inverse
from ptystream.recon.dilation import dilated, rescaled, with_aperture

K = 48


def gaussian(sigma_px: float, defocus: float = 0.0) -> torch.Tensor:
    """Return a Gaussian probe centred on [k//2, k//2], of one mode."""
    y, x = np.mgrid[:K, :K] - K // 2
    square = y**2 + x**2
    waves = np.exp(-square / (4 * sigma_px**2) + 1j * defocus * square)
    return torch.from_numpy(waves[None]).to(torch.complex64)


def pattern_of(probe: torch.Tensor) -> torch.Tensor:
    return far_field(probe).abs().square().sum(0)


def alike(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one.conj() * other).sum().abs() / one.norm() / other.norm())


@pytest.mark.parametrize("size", [0.5, 0.8, 1.0, 1.5])
def test_a_dilated_gaussian_is_that_of_another_width(size):
    made = dilated(gaussian(4.0, 0.01), size)
    assert alike(made, gaussian(4.0 * size, 0.01 / size**2)) > 0.999


def test_what_would_come_from_beyond_the_window_is_dark():
    made = dilated(torch.ones(1, K, K, dtype=torch.complex64), 0.5)
    light = made[0].abs()
    assert float(light[: K // 4 - 1].max()) < 1e-5
    assert float(light[K // 2, K // 2]) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("size", [0.5, 0.65, 1.4, 2.0])
def test_a_wrong_size_is_found(size):
    truth = gaussian(3.0, 0.02)
    found = rescaled(dilated(truth, size), pattern_of(truth), most=2.0)
    assert found is not None
    assert found[0] == pytest.approx(1 / size, rel=0.04)
    assert alike(found[1], truth) > 0.995


@pytest.mark.parametrize("light", [1e-3, 1e3])
def test_a_right_size_stays_whatever_the_light_and_the_defocus(light):
    truth = gaussian(3.0)
    y, x = np.mgrid[:K, :K] - K // 2
    chirp = torch.from_numpy(np.exp(0.3j * (y**2 + x**2))).to(torch.complex64)
    defocused = far_field_inverse(far_field(truth) * chirp)
    assert rescaled(defocused, light * pattern_of(truth), most=2.0) is None


def test_nothing_beyond_the_largest_factor_is_tried():
    truth = gaussian(2.0)
    found = rescaled(gaussian(4.0), pattern_of(truth), most=1.5)
    assert found is not None
    assert 1 / 1.5 <= found[0] < 0.75


def test_pixels_that_cannot_be_trusted_do_not_tell():
    truth = gaussian(3.0)
    pattern = pattern_of(truth)
    pattern[: K // 2] = math.nan
    found = rescaled(dilated(truth, 2.0), pattern, most=2.0)
    assert found is not None
    assert found[0] == pytest.approx(0.5, rel=0.04)


def test_an_aperture_gives_amplitudes_and_the_probe_its_phases():
    truth, first = gaussian(3.0, 0.02), gaussian(2.0, 0.02)
    made = with_aperture(first, 7 * pattern_of(truth))
    torch.testing.assert_close(
        pattern_of(made) / pattern_of(made).sum(),
        pattern_of(truth) / pattern_of(truth).sum(),
        rtol=1e-3,
        atol=1e-6,
    )
    waves, before = far_field(made)[0], far_field(first)[0]
    lit = before.abs() > 1e-3 * before.abs().max()
    assert float((waves * before.conj())[lit].angle().abs().max()) < 1e-2


def test_modes_share_the_aperture_as_they_did():
    both = torch.cat([gaussian(2.0), 0.5 * gaussian(2.0).roll(2, 1)])
    pattern = pattern_of(gaussian(3.0))
    pattern[0] = math.nan
    made = with_aperture(both, pattern)
    assert torch.isfinite(made.abs()).all()
    ratio = far_field(made).abs().square()
    torch.testing.assert_close(
        (ratio[1] / ratio[0])[K // 2, K // 2], torch.tensor(0.25), rtol=1e-2, atol=0
    )
