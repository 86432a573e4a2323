"""Soft constraints, as gradients beside those of the patterns."""

from dataclasses import dataclass

import torch
from jaxtyping import Complex
from torch import Tensor

from ptystream.physics.losses import probe_amplitude, surface_zero, total_variation
from ptystream.recon.optics import Gradients


@dataclass(frozen=True, slots=True)
class Prior:
    """Weights of total variation, surface-zero and the probe's mean amplitude.

    They stand beside the mean loss of a detector pixel, so they mean the same whatever
    the batch, its window or the dose. The probe's counts for the first ``probe_steps``.
    ``phase_only``: the object is a phase or potential, empty where that is 0.
    ``published``: variation and surface as paper B's code has them, not its text.
    """

    tv_xy: float = 0.0
    tv_z: float = 0.0
    surface: float = 0.0
    probe: float = 0.0
    probe_steps: int = 0
    phase_only: bool = False
    published: bool = False

    @property
    def idle(self) -> bool:
        """Whether there is nothing to add."""
        return not (self.tv_xy or self.tv_z or self.surface or self.probe)

    def add(
        self,
        got: Gradients,
        window: Complex[Tensor, "s h w"],
        probe: Complex[Tensor, "m k k"],
        step: int,
    ) -> Gradients:
        """Return the gradients with the constraints' added; the loss is the data's."""
        scale = got.scale * len(got.loss) * probe[0].numel()
        if self.tv_xy or self.tv_z or self.surface:
            got = got._replace(by_window=got.by_window + scale * self._object(window))
        if self.probe and step < self.probe_steps:
            got = got._replace(by_probe=got.by_probe + scale * self._probe(probe))
        return got

    @torch.enable_grad()
    def _object(self, window: Complex[Tensor, "s h w"]) -> Complex[Tensor, "s h w"]:
        """Return the gradient by the object."""
        leaf = window.detach().requires_grad_()
        code = self.published
        total = total_variation(
            leaf, weight_xy=self.tv_xy, weight_z=self.tv_z, published=code
        )
        if self.surface:
            volume = leaf.angle() if self.phase_only else leaf
            total = total + surface_zero(volume, weight=self.surface, published=code)
        return torch.autograd.grad(total, leaf)[0]

    @torch.enable_grad()
    def _probe(self, probe: Complex[Tensor, "m k k"]) -> Complex[Tensor, "m k k"]:
        """Return the gradient by the probe."""
        leaf = probe.detach().requires_grad_()
        return torch.autograd.grad(self.probe * probe_amplitude(leaf), leaf)[0]
