"""The operators that all classical engines share: patches, waves, and the projection.

Patterns are kept with the zero frequency first, so that no transform needs a shift; the
forward model is that of ``physics.forward``, and is tested against it.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from ptystream.physics.forward import split
from ptystream.physics.fused import patch_index
from ptystream.physics.propagate import fourier_shift
from ptystream.recon.classical.problem import Problem

Batch = slice | Int[Tensor, " b"]
"""Which patterns: a run of them, or their indices."""

Target = Callable[[Tensor, Tensor], Tensor]
"""Takes modelled and measured amplitude to the one that the wave shall have."""

ON_GRID_PX = 1e-3
"""Positions nearer to the pixel grid than this need no shift of the probe."""
DARK = 1e-5
"""Modelled amplitudes below this share of the largest measured one are lifted with less
than the full gain: in float32 their phase is mostly round-off."""


class Views(NamedTuple):
    """Object patches ``[b, k, k]`` and the probe's modes as they lie on them.

    ``modes`` is ``[b, m, k, k]``, or ``[1, m, k, k]`` where no probe is shifted.
    """

    patch: Complex[Tensor, "b k k"]
    modes: Complex[Tensor, "c m k k"]

    def waves(self) -> Complex[Tensor, "b m k k"]:
        """Return the exit waves."""
        return self.modes * self.patch[:, None]

    def light(self) -> Float[Tensor, "c k k"]:
        """Return Σ|P|² over the modes."""
        return squared(self.modes).sum(1)

    def transmitted(self) -> Float[Tensor, "b k k"]:
        """Return |O|²."""
        return squared(self.patch)


class Optics:
    """A problem's patterns, and the operators between object, probe and exit waves."""

    def __init__(self, problem: Problem) -> None:
        self._measured = _measured(problem)
        self._dark = DARK * self._measured.max()
        self.power = self._measured.clamp_min(0).square().sum()
        """ΣA² over all patterns."""
        self.patterns, self.size = self._measured.shape[:2]
        box = problem.canvas
        whole, beside = split(problem.corner_px.to(self._measured.device))
        self.corners = whole - whole.new_tensor([box.y, box.x])
        moved = problem.subpixel and bool(beside.abs().max() > ON_GRID_PX)
        self._shift_px = beside[:, None].to(self._measured) if moved else None

    def batches(self, size: int) -> Iterator[slice]:
        """Yield runs of at most ``size`` patterns: each pattern once."""
        for start in range(0, self.patterns, size):
            yield slice(start, start + size)

    def views(
        self, made: Complex[Tensor, "h w"], probe: Complex[Tensor, "m k k"], at: Batch
    ) -> Views:
        """Return what object and probe are at these patterns."""
        patch = made.reshape(-1)[self._index(made, at)]
        return Views(patch, self.modes(probe, at))

    def modes(
        self, probe: Complex[Tensor, "m k k"], at: Batch
    ) -> Complex[Tensor, "c m k k"]:
        """Return the probe as it lies on each pattern; one for all if on the grid."""
        if self._shift_px is None:
            return probe[None]
        return fourier_shift(probe[None], self._shift_px[at])

    def add_patches(
        self, canvas: Tensor, patches: Tensor, at: Batch
    ) -> Float[Tensor, "h w"] | Complex[Tensor, "h w"]:
        """Add ``[b, k, k]`` (or one for all) to the canvas, in place; return it."""
        index = self._index(canvas, at)
        values = patches.expand(index.shape).reshape(-1)
        canvas.view(-1).index_add_(0, index.reshape(-1), values)
        return canvas

    def sum_modes(
        self, by_mode: Complex[Tensor, "b m k k"], at: Batch
    ) -> Complex[Tensor, "m k k"]:
        """Move each pattern's modes back onto the grid, and sum over the patterns."""
        if self._shift_px is None:
            return by_mode.sum(0)
        return fourier_shift(by_mode, -self._shift_px[at]).sum(0)

    def to_measured(
        self,
        waves: Complex[Tensor, "b m k k"],
        at: Batch,
        target: Target | None = None,
    ) -> tuple[Complex[Tensor, "b m k k"], Float[Tensor, ""]]:
        """Return Π(ψ) − ψ, with Π the modulus projection, and Σ(a − A)².

        All modes of a pattern are scaled alike (Thibault and Menzel 2013); what does
        not count keeps its modelled value. ``target`` relaxes the projection.
        """
        far = torch.fft.fft2(waves, norm="ortho")
        model, seen = squared(far).sum(1).sqrt_(), self._measured[at]
        counts = seen >= 0
        step = (seen if target is None else target(model, seen)) - model
        far *= torch.where(counts, step / model.clamp_min(self._dark), 0)[:, None]
        misfit = torch.where(counts, seen - model, 0).square().sum()
        return torch.fft.ifft2(far, norm="ortho"), misfit

    def _index(self, canvas: Tensor, at: Batch) -> Int[Tensor, "b k k"]:
        """Return where each pixel of each patch lies in the flattened canvas."""
        return patch_index(self.corners[at], self.size, canvas.shape[-1])


def squared(waves: Complex[Tensor, "*b k k"]) -> Float[Tensor, "*b k k"]:
    """Return |ψ|²; squaring the parts is 4 times faster than ``abs``."""
    return waves.real.square().add_(waves.imag.square())


def _measured(problem: Problem) -> Float[Tensor, "n k k"]:
    """Return the amplitudes, zero frequency first, −1 where they do not count.

    Raises:
        ValueError: there is no light at all.
    """
    seen = problem.amplitude
    counts = torch.isfinite(seen) & (seen >= 0)
    if problem.mask is not None:
        counts &= problem.mask
    measured = torch.where(counts, seen, -1)
    if not bool((measured > 0).any()):
        raise ValueError("no pixel that counts has light: nothing to reconstruct from")
    return torch.fft.ifftshift(measured, dim=(-2, -1))
