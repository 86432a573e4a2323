"""A first probe of the wrong size or aperture, told by the mean pattern.

A probe half as large lights twice the aperture. What a scan's patterns have in common
is that aperture, so its size shows before anything is reconstructed; pixel by pixel a
probe takes hundreds of steps to grow, and where frames are few it never does.
"""

import math

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from ptystream.physics.propagate import far_field, far_field_inverse

OCTAVE = 8
"""Sizes tried to a factor of two."""
CLEAR = 0.5
"""Another size is worth a try if it leaves less than this share of the mean pattern
unexplained: objects that scatter widely blur the pattern for all sizes alike."""


def rescaled(
    probe: Complex[Tensor, "m k k"],
    pattern: Float[Tensor, "k k"],
    *,
    most: float,
) -> tuple[float, Complex[Tensor, "m k k"]] | None:
    """Return the size that explains the mean pattern, and the probe of that size.

    None where its own size explains it as well, or nearly.

    Args:
        probe: the first probe, centred.
        pattern: the mean of far-field patterns, zero frequency in the centre; NaN
            where it can't be trusted.
        most: largest factor, either way.
    """
    reach = math.floor(math.log2(most) * OCTAVE)
    sizes = [2 ** (n / OCTAVE) for n in range(-reach, reach + 1)]
    missed = [_missed(dilated(probe, size), pattern) for size in sizes]
    best = min(range(len(sizes)), key=missed.__getitem__)
    if missed[best] >= CLEAR * missed[reach]:
        return None
    size = 2 ** ((best - reach + _vertex(missed, best)) / OCTAVE)
    return size, dilated(probe, size)


def dilated(probe: Complex[Tensor, "m k k"], size: float) -> Complex[Tensor, "m k k"]:
    """Return the probe so many times as large, about its centre; dark beyond it.

    By its Fourier series, so nothing is smoothed; the light is not kept.
    """
    if size == 1:
        return probe
    k, real = probe.shape[-1], probe.real
    places = (torch.arange(k).to(real) - k // 2) / size
    turns = torch.outer(places, torch.fft.fftfreq(k).to(real))
    inside = (places.abs() <= k / 2).to(real) / k
    series = torch.polar(inside[:, None].expand(-1, k), 2 * torch.pi * turns)
    waves = torch.fft.fft2(torch.fft.ifftshift(probe, dim=(-2, -1)))
    return series @ waves @ series.T


def with_aperture(
    probe: Complex[Tensor, "m k k"], pattern: Float[Tensor, "k k"]
) -> Complex[Tensor, "m k k"]:
    """Return the probe with the mean pattern's amplitudes, its own phases in the pupil.

    ``pattern`` as for ``rescaled``; where it is NaN, the probe's own amplitudes stay.
    """
    waves = far_field(probe)
    lit, told = _trusted(waves.abs().square().sum(0), pattern)
    wanted = told * (lit.sum() / told.sum().clamp_min(1e-30))
    share = (wanted / lit.clamp_min(1e-12 * lit.max())).sqrt()
    return far_field_inverse(torch.where(pattern.isnan(), waves, waves * share))


def _missed(probe: Complex[Tensor, "m k k"], pattern: Float[Tensor, "k k"]) -> float:
    """Return 1 less the overlap of the amplitudes that the detector sees: 0 … 1."""
    lit, told = _trusted(far_field(probe).abs().square().sum(0), pattern)
    overlap = (lit.sqrt() * told.sqrt()).sum()
    return float(1 - overlap / (lit.sum() * told.sum()).sqrt().clamp_min(1e-30))


def _trusted(
    lit: Float[Tensor, "k k"], pattern: Float[Tensor, "k k"]
) -> tuple[Float[Tensor, "k k"], Float[Tensor, "k k"]]:
    """Return both, 0 where the pattern is NaN."""
    return torch.where(pattern.isnan(), 0, lit), pattern.nan_to_num(0).clamp_min(0)


def _vertex(values: list[float], at: int) -> float:
    """Return where between neighbours the least value lies, in -½ … ½."""
    if not 0 < at < len(values) - 1:
        return 0.0
    before, here, after = values[at - 1 : at + 2]
    bend = before - 2 * here + after
    return 0.0 if bend <= 0 else max(-0.5, min(0.5, (before - after) / (2 * bend)))
