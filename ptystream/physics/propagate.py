"""Waves from plane to plane: far field, slices, near field, and sub-pixel shifts.

All are unitary on what propagates. Kernels have the zero frequency first; they are
built in float64 and then rounded, since a phase of 10⁵ rad has no float32 digits left.
"""

import torch
from jaxtyping import Complex, Float
from torch import Tensor


def far_field(psi: Complex[Tensor, "*b h w"]) -> Complex[Tensor, "*b h w"]:
    """Fraunhofer propagation, zero frequency moved to the centre."""
    return torch.fft.fftshift(torch.fft.fft2(psi, norm="ortho"), dim=(-2, -1))


def far_field_inverse(psi: Complex[Tensor, "*b h w"]) -> Complex[Tensor, "*b h w"]:
    """Undo ``far_field``; it is also its adjoint."""
    return torch.fft.ifft2(torch.fft.ifftshift(psi, dim=(-2, -1)), norm="ortho")


def convolve(
    psi: Complex[Tensor, "*b h w"], kernel: Complex[Tensor, "h w"]
) -> Complex[Tensor, "*b h w"]:
    """Multiply by the kernel in Fourier space: propagation, periodic at the edge."""
    return torch.fft.ifft2(torch.fft.fft2(psi) * kernel)


def angular_spectrum(
    shape: tuple[int, int],
    *,
    wavelength_m: float,
    distance_m: float,
    pixel_m: tuple[float, float],
    dtype: torch.dtype = torch.complex64,
    device: torch.device | str = "cpu",
) -> Complex[Tensor, "h w"]:
    """Return the exact free-space kernel for ``convolve``, without exp(2πi z/λ).

    exp(2πi z (√(λ⁻² − f²) − λ⁻¹)); evanescent waves (f > 1/λ) are removed.
    """
    f2 = _squared_frequency(shape, pixel_m)
    wavenumber = 1 / wavelength_m
    along2 = wavenumber**2 - f2
    along = along2.clamp_min(0).sqrt()
    lag = -f2 / (along + wavenumber)  # = along - 1/λ, without cancellation
    return _phase(2 * torch.pi * distance_m * lag, along2 > 0, dtype, device)


def fresnel(
    shape: tuple[int, int],
    *,
    fresnel_number: tuple[float, float],
    dtype: torch.dtype = torch.complex64,
    device: torch.device | str = "cpu",
) -> Complex[Tensor, "h w"]:
    """Return the near-field kernel for ``convolve``: exp(−iπ Σ ν²/F).

    ``fresnel_number`` (y, x) is that of one pixel, pixel²/(wavelength · distance): that
    of ``geometry``. In a cone beam, take the demagnified pixel and the effective
    distance. ν is in cycles per pixel; F < 0 propagates backwards.
    """
    pixel = (abs(fresnel_number[0]) ** 0.5, abs(fresnel_number[1]) ** 0.5)
    f2 = _squared_frequency(shape, pixel)
    sign = 1.0 if fresnel_number[0] > 0 else -1.0
    return _phase(-sign * torch.pi * f2, torch.ones_like(f2), dtype, device)


def fourier_shift(
    images: Complex[Tensor, "*#b h w"], shift_px: Float[Tensor, "*#b 2"]
) -> Complex[Tensor, "... h w"]:
    """Move images by (dy, dx) px, periodic: f(r) becomes f(r − shift).

    Leading axes broadcast: ``[m, k, k]`` by ``[b, 1, 2]`` gives ``[b, m, k, k]``.
    """
    h, w = images.shape[-2:]
    down = _ramp(shift_px[..., 0], h)[..., :, None]
    across = _ramp(shift_px[..., 1], w)[..., None, :]
    return torch.fft.ifft2(torch.fft.fft2(images) * down * across)


def _ramp(shift_px: Float[Tensor, "*b"], size: int) -> Complex[Tensor, "*b n"]:
    """Return exp(−2πi ν shift) along one axis."""
    nu = torch.fft.fftfreq(size, dtype=shift_px.dtype, device=shift_px.device)
    turns = -2 * torch.pi * shift_px[..., None] * nu
    return torch.polar(torch.ones_like(turns), turns)


def _squared_frequency(
    shape: tuple[int, int], pixel: tuple[float, float]
) -> Float[Tensor, "h w"]:
    """Return fy² + fx² in float64, zero frequency first."""
    fy = torch.fft.fftfreq(shape[0], pixel[0], dtype=torch.float64)
    fx = torch.fft.fftfreq(shape[1], pixel[1], dtype=torch.float64)
    return fy[:, None] ** 2 + fx[None, :] ** 2


def _phase(
    phase_rad: Float[Tensor, "h w"],
    kept: Tensor,
    dtype: torch.dtype,
    device: torch.device | str,
) -> Complex[Tensor, "h w"]:
    """Return exp(i phase) where kept, else 0."""
    kernel = torch.polar(kept.to(torch.float64), phase_rad)
    return kernel.to(device=device, dtype=dtype)
