"""WASP: sequential projections, and a weighted average over all of them."""

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from ptystream.recon.classical.optics import Batch, Views, squared
from ptystream.recon.classical.options import WaspOptions
from ptystream.recon.classical.problem import Problem
from ptystream.recon.classical.sequential import Sequential


class WASP(Sequential):
    """Weighted average of sequential projections.

    Maiden, Mei and Li, Opt. Express 32, 21327, 2024. Projections in sequence,
    O += P* Δψ / (|P|² + α mean|P|²) and P += O* Δψ / (|O|² + β); then the averages
    O = Σ P* Π(ψ) / Σ |P|² and P = Σ O* Π(ψ) / Σ |O|², gathered on the way: with the
    updated probe, and the patch before its update, as the authors' program does.
    """

    def __init__(self, problem: Problem, options: WaspOptions | None = None) -> None:
        self._options = options or WaspOptions()
        super().__init__(problem, self._options)

    def _sweep(self) -> Float[Tensor, ""]:
        self._by_light = torch.zeros_like(self.object)
        self._light = torch.zeros_like(self.object.real)
        self._by_object = torch.zeros_like(self.probe)
        self._object_light = torch.zeros_like(self.probe[0].real)
        misfit = super()._sweep()
        self.object.copy_(_average(self._by_light, self._light, self.object))
        if self.learns_probe:
            made = _average(self._by_object, self._object_light, self.probe)
            self.probe.copy_(made)
        return misfit

    def _learn(
        self, at: Batch, views: Views, change: Complex[Tensor, "b m k k"]
    ) -> None:
        o, light = self._options, views.light()
        by_light = 1 / (light + o.object_alpha * light.mean((1, 2), keepdim=True))
        by_object = 1 / (views.transmitted() + o.probe_beta)
        made = views.waves() + change  # before the step: on the grid, modes is a view
        self._step(at, views, change, by_light, by_object)
        self._gather(at, views, made)

    def _gather(
        self, at: Batch, views: Views, made: Complex[Tensor, "b m k k"]
    ) -> None:
        """Add the projected waves to the sums.

        The probe's are taken about the probe as it is, which changes nothing on the
        grid, and keeps a solution where it is beside it.
        """
        now = self.optics.modes(self.probe, at)
        self.optics.add_patches(self._by_light, (now.conj() * made).sum(1), at)
        self.optics.add_patches(self._light, squared(now).sum(1), at)
        crossed = views.transmitted()
        beside = (made - now * views.patch[:, None]) * views.patch.conj()[:, None]
        light = crossed.sum(0)
        self._by_object += self.optics.sum_modes(beside, at) + light * self.probe
        self._object_light += light


def _average(total: Tensor, weight: Tensor, before: Tensor) -> Tensor:
    """Return total / weight; what has hardly any weight stays as it was."""
    floor = 1e-10 * weight.max()
    return torch.where(weight > floor, total / weight.clamp_min(floor), before)
