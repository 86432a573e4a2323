"""The engine's optics: far field and smooth-L1 loss with a hand-written adjoint.

One pass gives the loss and the gradients by object window and probe, without a graph.
``physics.forward`` holds the differentiable reference that this is tested against.
"""

from functools import lru_cache
from typing import NamedTuple

import torch
from jaxtyping import Bool, Complex, Float, Int, Shaped
from torch import Tensor
from torch.nn.functional import smooth_l1_loss

TINY = 1e-12
"""Added to the intensity under the root, in units of the mean intensity."""


class Gradients(NamedTuple):
    """What one batch says of object and probe.

    ``loss`` ``[b]`` is each pattern's mean smooth-L1. The gradients are those of
    β · Σ smooth-L1: for β large, of ½ Σ (a - A)², the step of the classical engines.
    ``illumination`` ``[h, w]`` is Σ|P|² over the batch; ``by_probe`` comes with the
    ``transmission`` that it is measured in: Σ|O|² over the batch, mean over the patch.
    """

    loss: Float[Tensor, " b"]
    by_window: Complex[Tensor, "h w"]
    illumination: Float[Tensor, "h w"]
    by_probe: Complex[Tensor, "m k k"]
    transmission: Float[Tensor, ""]


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
    size, corners = probe.shape[-1], patterns.corners
    sign = checkerboard(size, probe.device)
    ramp = _ramp(patterns, size)
    waves = _shifted(probe * sign, ramp)
    patches = _patches(window, corners, size)[:, None]
    far = torch.fft.fft2(waves * patches, norm="ortho")
    loss = _misfit(far, patterns, beta)
    back = torch.fft.ifft2(far, norm="ortho")
    by_window = _add_patches(_sum_modes(back * waves.conj_physical_()), corners, window)
    light = _intensity(probe).expand(len(corners), -1, -1)
    illumination = _add_patches(light, corners, window.real)
    transmission = energy(patches) / size**2
    by_probe = torch.zeros_like(probe)
    if probe_too:
        by_probe = _unshifted_sum(back.mul_(patches.conj_physical_()), ramp) * sign
    return Gradients(loss, by_window, illumination, by_probe, transmission)


def predict(
    window: Complex[Tensor, "h w"],
    probe: Complex[Tensor, "m k k"],
    patterns: Patterns,
) -> Float[Tensor, "b k k"]:
    """Return the amplitudes that the detector should see; zero frequency centred."""
    patches = _patches(window, patterns.corners, probe.shape[-1])[:, None]
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


@lru_cache(maxsize=8)
def checkerboard(size: int, device: torch.device) -> Float[Tensor, "k k"]:
    """Return (-1)^(y+x): on the probe, it moves the zero frequency to the centre.

    For even sizes only; ValueError for others. Kept, and shared: don't write to it.
    """
    if size % 2:
        raise ValueError(f"patterns of {size} pixels: expected an even number")
    line = 1 - 2 * (torch.arange(size, device=device) % 2)
    return (line[:, None] * line).float()


def energy(waves: Complex[Tensor, "..."]) -> Float[Tensor, ""]:
    """Return Σ|ψ|² of everything: one pass, where ``_intensity`` takes two and more."""
    parts = torch.view_as_real(waves).flatten()
    return parts @ parts


def _ramp(patterns: Patterns, size: int) -> Complex[Tensor, "b 1 k k"] | None:
    """Return the batch's shift in Fourier space, for a probe times the checkerboard."""
    if patterns.shift_px is None:
        return None
    lines = torch.fft.fftshift(_shift_lines(patterns.shift_px, size), dim=-1)
    return _outer(lines)[:, None]


def _shift_lines(shift_px: Float[Tensor, "b 2"], size: int) -> Complex[Tensor, "b 2 k"]:
    """Return exp(-2πi f·shift) along y and along x: their product moves a probe."""
    f = torch.fft.fftfreq(size, device=shift_px.device)
    turns = -2 * torch.pi * shift_px[:, :, None] * f
    return torch.polar(torch.ones_like(turns), turns)


def _outer(lines: Complex[Tensor, "b 2 k"]) -> Complex[Tensor, "b k k"]:
    """Return the product of each pattern's two lines."""
    return lines[:, 0, :, None] * lines[:, 1, None, :]


def _misfit(
    far: Complex[Tensor, "b m k k"], patterns: Patterns, beta: float
) -> Float[Tensor, " b"]:
    """Return each pattern's loss; turn the waves, in place, into its gradient."""
    model = _intensity(far).add_(TINY).sqrt_()
    loss = smooth_l1_loss(model, patterns.amplitude, reduction="none", beta=beta)
    slope = (model - patterns.amplitude).clamp_(-beta, beta)
    if patterns.mask is not None:
        loss.mul_(patterns.mask)
        slope.mul_(patterns.mask)
    far.mul_(slope.div_(model)[:, None])
    return loss.mean((1, 2))


def _intensity(waves: Complex[Tensor, "*b m k k"]) -> Float[Tensor, "*b k k"]:
    """Return Σ|ψ|² over modes.

    Squares in memory order are 2.3 times faster than those of real and imaginary part
    one by one, and 9 times faster than ``abs``.
    """
    squares = torch.view_as_real(waves).square()
    return _sum_modes(squares[..., 0] + squares[..., 1])


def _sum_modes(values: Shaped[Tensor, "*b m k k"]) -> Shaped[Tensor, "*b k k"]:
    """Return the sum over modes; a single one costs no pass."""
    return values.squeeze(-3) if values.shape[-3] == 1 else values.sum(-3)


def _patches(
    window: Complex[Tensor, "h w"], corners: Int[Tensor, "b 2"], size: int
) -> Complex[Tensor, "b k k"]:
    """Cut patches: by corner, 4 times faster than by an index for each pixel."""
    return _views(window, size)[corners[:, 0], corners[:, 1]]


def _add_patches(
    patches: Shaped[Tensor, "b k k"], corners: Int[Tensor, "b 2"], like: Tensor
) -> Shaped[Tensor, "h w"]:
    """Add patches into a window of zeros.

    By corner, that is 3 times faster than by an index for each pixel. CUDA sorts, and
    would add to a copy of views that overlap.
    """
    out = torch.zeros(like.shape, dtype=patches.dtype, device=patches.device)
    size = patches.shape[-1]
    if out.is_cuda:
        index = patch_index(corners, size, like.shape[-1])
        out.view(-1).index_add_(0, index.reshape(-1), patches.reshape(-1))
    else:
        at = corners[:, 0], corners[:, 1]
        _views(out, size).index_put_(at, patches, accumulate=True)
    return out


def _views(window: Shaped[Tensor, "h w"], size: int) -> Shaped[Tensor, "rows cols k k"]:
    """Return every patch of the window by its corner, without a copy."""
    return window.unfold(0, size, 1).unfold(1, size, 1)


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
    spectra = torch.fft.fft2(by_wave).mul_(ramp.conj())
    return torch.fft.ifft2(spectra.sum(0))
