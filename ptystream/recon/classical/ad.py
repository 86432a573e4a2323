"""AD: the pixels of object and probe, learned with Adam."""

import torch
from jaxtyping import Float
from torch import Tensor

from ptystream.recon.classical.engine import Engine
from ptystream.recon.classical.options import AdOptions
from ptystream.recon.classical.problem import Problem


class AD(Engine):
    """Gradient of ½ Σ(a − A)² and Adam, by random batches.

    As automatic-differentiation ptychography (Kandel et al., Opt. Express 27, 18653,
    2019), with real and imaginary parts as parameters. The gradient is written by
    hand: by a wave it is ψ − Π(ψ), and is tested against autograd on
    ``physics.forward``.
    """

    def __init__(self, problem: Problem, options: AdOptions | None = None) -> None:
        self._options = options or AdOptions()
        super().__init__(problem, self._options)

    def _restart(self) -> None:
        peak = float(self.probe.abs().max())
        rates = (self._options.object_rate, self._options.probe_rate * peak)
        both = (self.object, self.probe)
        self._adam = torch.optim.Adam(
            [{"params": [p], "lr": r} for p, r in zip(both, rates, strict=True)],
            betas=(self._options.beta_mean, self._options.beta_square),
        )

    def _sweep(self) -> Float[Tensor, ""]:
        order = torch.randperm(self.optics.patterns, generator=self._random)
        total = torch.zeros_like(self.optics.power)
        for at in order.to(self.object.device).split(self._options.batch):
            total += self._differentiate(at)
            self._adam.step()
        return total

    def _differentiate(self, at: Tensor) -> Float[Tensor, ""]:
        """Leave both gradients where Adam looks for them; return Σ(a − A)²."""
        views = self.optics.views(self.object, self.probe, at)
        change, misfit = self.optics.to_measured(views.waves(), at)
        by_patch = -(views.modes.conj() * change).sum(1)
        empty = torch.zeros_like(self.object)
        self.object.grad = self.optics.add_patches(empty, by_patch, at)
        by_mode = change * views.patch.conj()[:, None]
        learned = self.learns_probe
        self.probe.grad = -self.optics.sum_modes(by_mode, at) if learned else None
        return misfit
