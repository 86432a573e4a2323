"""The engine's optics: far field and smooth-L1 loss with a hand-written adjoint.

One pass gives the loss and the gradients by object window and probe, without a graph.
``physics.forward`` holds the differentiable reference that this is tested against.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Complex, Float, Int
from torch import Tensor

TINY = 1e-12
"""Added to the intensity under the root, in units of the mean intensity."""


class Gradients(NamedTuple):
    """What one batch says of object and probe.

    ``loss`` ``[b]`` is each pattern's mean smooth-L1. The gradients are those of
    β · Σ smooth-L1: for β large, of ½ Σ (a - A)², the step of the classical engines.
    ``illumination`` ``[h, w]`` is Σ|P|² over the batch, ``by_probe`` comes with the
    ``transmission`` Σ|O|² ``[k, k]`` that it is measured in.
    """

    loss: Float[Tensor, " b"]
    by_window: Complex[Tensor, "h w"]
    illumination: Float[Tensor, "h w"]
    by_probe: Complex[Tensor, "m k k"]
    transmission: Float[Tensor, "k k"]


class Patterns(NamedTuple):
    """A batch of measurements.

    ``corners`` ``[b, 2]`` are the patches' top-left pixels in the window,
    ``shift_px`` ``[b, 2]`` how far the probe lies beside the pixel grid (None: on it),
    ``amplitude`` ``[b, k, k]`` with the zero frequency in the centre, ``mask``
    ``[k, k]`` true where the detector can be trusted (None: everywhere).
    """

    corners: Int[Tensor, "b 2"]
    shift_px: Float[Tensor, "b 2"] | None
    amplitude: Float[Tensor, "b k k"]
    mask: Bool[Tensor, "k k"] | None = None


def gradients(
    window: Complex[Tensor, "h w"],
    probe: Complex[Tensor, "m k k"],
    patterns: Patterns,
    *,
    beta: float,
    probe_too: bool = True,
) -> Gradients:
    """Return loss and gradients of a batch (PtyINR eq. 2, amplitudes, mean over modes).

    Args:
        window: the object where the batch lies.
        probe: its modes, incoherently summed, on the centre of the patch.
        patterns: what was measured.
        beta: where smooth-L1 turns from square to linear, in units of the amplitude.
        probe_too: False leaves the probe's gradient zero and saves its cost.
    """
    index = patch_index(patterns.corners, probe.shape[-1], window.shape[-1])
    patches = window.reshape(-1).index_select(0, index.reshape(-1))
    patches = patches.reshape(len(index), 1, *probe.shape[-2:])
    sign = checkerboard(probe.shape[-1], probe.device)
    ramp = _ramp(patterns, probe.shape[-1])
    waves = _shifted(probe * sign, ramp)
    far = torch.fft.fft2(waves * patches, norm="ortho")
    model = _intensity(far).add_(TINY).sqrt_()
    residual = model - patterns.amplitude
    if patterns.mask is not None:
        residual.mul_(patterns.mask)
    slope = residual.clamp(-beta, beta)
    loss = (slope * (residual - 0.5 * slope)).mean((1, 2)) / beta
    far.mul_(slope.div_(model)[:, None])
    back = torch.fft.ifft2(far, norm="ortho")
    by_patch = (back * waves.conj()).sum(1)
    by_window = _scatter(by_patch, index, window)
    light = _intensity((probe * sign)[None]).expand(len(index), -1, -1)
    illumination = _scatter(light, index, window.real)
    by_probe = torch.zeros_like(probe)
    transmission = torch.zeros_like(probe[0].real)
    if probe_too:
        by_probe = _unshifted_sum(back * patches.conj(), ramp) * sign
        transmission = _intensity(patches).sum(0)
    return Gradients(loss, by_window, illumination, by_probe, transmission)


def predict(
    window: Complex[Tensor, "h w"],
    probe: Complex[Tensor, "m k k"],
    patterns: Patterns,
) -> Float[Tensor, "b k k"]:
    """Return the amplitudes that the detector should see; zero frequency centred."""
    index = patch_index(patterns.corners, probe.shape[-1], window.shape[-1])
    patches = window.reshape(-1)[index][:, None]
    sign = checkerboard(probe.shape[-1], probe.device)
    waves = _shifted(probe * sign, _ramp(patterns, probe.shape[-1]))
    return _intensity(torch.fft.fft2(waves * patches, norm="ortho")).sqrt_()


def patch_index(
    corners: Int[Tensor, "b 2"], size: int, width: int
) -> Int[Tensor, "b k k"]:
    """Return where each pixel of each patch lies in a flattened window."""
    line = torch.arange(size, device=corners.device)
    start = corners[:, 0] * width + corners[:, 1]
    return start[:, None, None] + (line[:, None] * width + line)


def checkerboard(size: int, device: torch.device) -> Float[Tensor, "k k"]:
    """Return (-1)^(y+x): on the probe, it moves the zero frequency to the centre.

    For even sizes only; ValueError for others.
    """
    if size % 2:
        raise ValueError(f"patterns of {size} pixels: expected an even number")
    line = 1 - 2 * (torch.arange(size, device=device) % 2)
    return (line[:, None] * line).float()


def shift_ramp(shift_px: Float[Tensor, "b 2"], size: int) -> Complex[Tensor, "b k k"]:
    """Return exp(-2πi f·shift): in Fourier space, it moves a probe by ``shift_px``."""
    f = torch.fft.fftfreq(size, device=shift_px.device)
    turns = -2 * torch.pi * shift_px[:, :, None] * f
    lines = torch.polar(torch.ones_like(turns), turns)
    return lines[:, 0, :, None] * lines[:, 1, None, :]


def _ramp(patterns: Patterns, size: int) -> Complex[Tensor, "b 1 k k"] | None:
    """Return the batch's shift in Fourier space, for a probe times the checkerboard."""
    if patterns.shift_px is None:
        return None
    ramp = shift_ramp(patterns.shift_px, size)
    return torch.fft.fftshift(ramp, dim=(1, 2))[:, None]


def _intensity(waves: Complex[Tensor, "*b m k k"]) -> Float[Tensor, "*b k k"]:
    """Return Σ|ψ|² over modes; squaring the parts is 4 times faster than ``abs``."""
    both = waves.real.square().add_(waves.imag.square())
    return both.squeeze(-3) if both.shape[-3] == 1 else both.sum(-3)


def _scatter(
    values: Tensor, index: Int[Tensor, "b k k"], like: Tensor
) -> Float[Tensor, "h w"] | Complex[Tensor, "h w"]:
    """Add patches into a window of zeros."""
    out = torch.zeros(like.numel(), dtype=values.dtype, device=values.device)
    out.index_add_(0, index.reshape(-1), values.reshape(-1))
    return out.reshape(like.shape)


def _shifted(
    probe: Complex[Tensor, "m k k"], ramp: Complex[Tensor, "b 1 k k"] | None
) -> Complex[Tensor, "c m k k"]:
    """Return the probe for each pattern (one for all where nothing is shifted)."""
    if ramp is None:
        return probe[None]
    return torch.fft.ifft2(torch.fft.fft2(probe)[None] * ramp)


def _unshifted_sum(
    by_wave: Complex[Tensor, "b m k k"], ramp: Complex[Tensor, "b 1 k k"] | None
) -> Complex[Tensor, "m k k"]:
    """Return the adjoint of ``_shifted``, summed over patterns."""
    if ramp is None:
        return by_wave.sum(0)
    return torch.fft.ifft2(torch.fft.fft2(by_wave).mul_(ramp.conj()).sum(0))
