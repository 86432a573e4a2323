import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ptystream.physics.geometry import fresnel_number
from ptystream.physics.propagate import (
    angular_spectrum,
    convolve,
    far_field,
    far_field_inverse,
    fourier_shift,
    fresnel,
)

WIDE = torch.complex128
OPTICS = {"wavelength_m": 1e-10, "distance_m": 2e-4, "pixel_m": (8e-9, 9e-9)}


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    made = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=WIDE, generator=made)


def gaussian(size: int, at: tuple[float, float], sigma: float) -> torch.Tensor:
    line = torch.arange(size, dtype=torch.float64)
    r2 = (line[:, None] - at[0]) ** 2 + (line[None] - at[1]) ** 2
    return torch.exp(-r2 / (2 * sigma**2)).to(WIDE)


def kernel(name: str, shape: tuple[int, int]) -> torch.Tensor:
    if name == "slices":
        return angular_spectrum(shape, dtype=WIDE, **OPTICS)
    y, x = (
        fresnel_number(pixel_m, OPTICS["wavelength_m"], OPTICS["distance_m"])
        for pixel_m in OPTICS["pixel_m"]
    )
    return fresnel(shape, fresnel_number=(y, x), dtype=WIDE)


def operator(name: str, shape: tuple[int, int]):
    if name == "far":
        return far_field
    if name == "shift":
        return lambda psi: fourier_shift(psi, torch.tensor([0.3, -1.7]).double())
    return lambda psi: convolve(psi, kernel(name, shape))


@pytest.mark.parametrize("name", ["far", "slices", "near", "shift"])
@pytest.mark.parametrize("shape", [(8, 8), (7, 10)])
def test_propagation_keeps_the_energy(name, shape):
    psi = noise(3, *shape)
    out = operator(name, shape)(psi)
    torch.testing.assert_close(out.norm(), psi.norm())


@pytest.mark.parametrize("name", ["far", "slices", "near", "shift"])
def test_the_gradient_is_the_adjoint(name):
    a = operator(name, (6, 7))
    x, y = noise(6, 7).requires_grad_(), noise(6, 7, seed=1)
    product = (y.conj() * a(x)).sum()
    (back,) = torch.autograd.grad(product.real, x)  # = A* y
    torch.testing.assert_close((back.conj() * x).sum(), product)


@given(st.integers(1, 9), st.integers(1, 9))
def test_far_field_is_undone_by_its_inverse(h, w):
    psi = noise(2, h, w)
    torch.testing.assert_close(far_field_inverse(far_field(psi)), psi)


def test_far_field_is_fft2_with_the_zero_frequency_in_the_centre():
    line = torch.arange(8).double()
    wave = torch.exp(2j * math.pi * (line[:, None] * 2 - line[None] * 3) / 8).to(WIDE)
    peak = far_field(wave).abs().argmax()
    assert divmod(int(peak), 8) == (4 + 2, 4 - 3)


def test_single_precision_agrees_with_double():
    psi = noise(64, 64)
    fine = convolve(psi, angular_spectrum((64, 64), dtype=WIDE, **OPTICS))
    coarse = convolve(psi.to(torch.complex64), angular_spectrum((64, 64), **OPTICS))
    torch.testing.assert_close(coarse.to(WIDE), fine, rtol=0, atol=1e-5)


def test_angular_spectrum_spreads_a_gaussian_beam_as_theory_says():
    size, pixel, wavelength, distance, waist = 128, 1e-8, 1e-9, 4e-6, 1e-7
    psi = gaussian(size, (64, 64), waist / pixel / 2**0.5)  # exp(-r²/waist²)
    kernel = angular_spectrum(
        (size, size),
        wavelength_m=wavelength,
        distance_m=distance,
        pixel_m=(pixel, pixel),
        dtype=WIDE,
    )
    reach = math.pi * waist**2 / wavelength
    width = waist * math.sqrt(1 + (distance / reach) ** 2)
    expected = gaussian(size, (64, 64), width / pixel / 2**0.5) * waist / width
    got = convolve(psi, kernel)
    torch.testing.assert_close(got.abs(), expected.abs(), rtol=0, atol=2e-4)
    curvature = got[64, 74].angle() - got[64, 64].angle()  # diverging: phase grows
    radius = distance * (1 + (reach / distance) ** 2)
    expected_rad = math.pi * (10 * pixel) ** 2 / (wavelength * radius)
    assert float(curvature) == pytest.approx(expected_rad, rel=2e-3)


def test_two_slices_of_space_are_one_of_both_lengths():
    once = angular_spectrum((16, 16), dtype=WIDE, **OPTICS | {"distance_m": 4e-4})
    half = angular_spectrum((16, 16), dtype=WIDE, **OPTICS)
    torch.testing.assert_close(half * half, once)


def test_near_field_is_the_angular_spectrum_of_small_angles():
    # The next term of the root is π z λ³ f⁴ / 4: 7.7e-3 rad in the corner.
    torch.testing.assert_close(
        kernel("near", (32, 32)), kernel("slices", (32, 32)), rtol=0, atol=8e-3
    )


def test_a_negative_fresnel_number_goes_back():
    psi, number = noise(8, 8), (0.3, 0.2)
    there = fresnel((8, 8), fresnel_number=number, dtype=WIDE)
    back = fresnel((8, 8), fresnel_number=(-0.3, -0.2), dtype=WIDE)
    torch.testing.assert_close(convolve(convolve(psi, there), back), psi)


def test_evanescent_waves_are_removed():
    kernel = angular_spectrum(
        (16, 16), wavelength_m=1e-9, distance_m=1e-8, pixel_m=(0.4e-9, 0.4e-9)
    )
    frequency = torch.fft.fftfreq(16, 0.4e-9).square()
    kept = (frequency[:, None] + frequency[None]) < 1e18
    assert 0 < kept.sum() < kept.numel()
    torch.testing.assert_close(kernel.abs(), kept.float())


@given(st.floats(-3, 3), st.floats(-3, 3))
def test_fourier_shift_moves_a_gaussian_by_what_is_asked(dy, dx):
    shift = torch.tensor([dy, dx], dtype=torch.float64)
    moved = fourier_shift(gaussian(32, (16, 15), 2.0), shift)
    expected = gaussian(32, (16 + dy, 15 + dx), 2.0)
    torch.testing.assert_close(moved, expected, rtol=0, atol=1e-6)


def test_fourier_shift_by_whole_pixels_is_a_roll_for_each_of_a_stack():
    images, shift = noise(2, 5, 6), torch.tensor([[1.0, -2.0], [0.0, 3.0]]).double()
    moved = fourier_shift(images, shift[:, None])
    for b, (dy, dx) in enumerate(shift.int().tolist()):
        expected = images.roll((dy, dx), (-2, -1))
        torch.testing.assert_close(moved[b], expected)
