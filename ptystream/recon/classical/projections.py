"""DM and RAAR: reflections between what was measured and the overlap."""

import torch
from jaxtyping import Float
from torch import Tensor

from ptystream.recon.classical.optics import squared
from ptystream.recon.classical.options import DmOptions, RaarOptions
from ptystream.recon.classical.overlap import Overlapping
from ptystream.recon.classical.problem import Problem


class DM(Overlapping):
    """Difference map (Thibault et al., Ultramicroscopy 109, 338, 2009; β = 1).

    ψ += Π_F((1 + α) Π_O ψ − α ψ) − Π_O ψ with α = 1; smaller ones are PtyPy's.
    """

    def __init__(self, problem: Problem, options: DmOptions | None = None) -> None:
        self._options = options or DmOptions()
        super().__init__(problem, self._options)

    def _sweep(self) -> Float[Tensor, ""]:
        self.project(self.waves)
        alpha, total = self._options.alpha, torch.zeros_like(self.optics.power)
        for at in self.optics.batches(self._options.batch):
            shared = self.optics.views(self.object, self.probe, at).waves()
            mirrored = (1 + alpha) * shared - alpha * self.waves[at]
            change, _ = self.optics.to_measured(mirrored, at)
            step = mirrored.add_(change).sub_(shared)
            self.waves[at] += step
            total += squared(step).sum()
        return total


class RAAR(Overlapping):
    """Relaxed averaged alternating reflections (Luke, Inverse Problems 21, 37, 2005).

    ψ ← ½β(R_O R_F + 1)ψ + (1 − β)Π_F ψ with R = 2Π − 1, that is
    βψ + β Π_O(2Π_F ψ − ψ) + (1 − 2β)Π_F ψ. With β = 1 it is the difference map, the
    two projections having changed places.
    """

    def __init__(self, problem: Problem, options: RaarOptions | None = None) -> None:
        self._options = options or RaarOptions()
        super().__init__(problem, self._options)

    def _sweep(self) -> Float[Tensor, ""]:
        beta, total = self._options.beta, torch.zeros_like(self.optics.power)
        changes = torch.empty_like(self.waves)
        for at in self.optics.batches(self._options.batch):
            changes[at], _ = self.optics.to_measured(self.waves[at], at)
        self.project(self.waves + 2 * changes)
        for at in self.optics.batches(self._options.batch):
            shared = self.optics.views(self.object, self.probe, at).waves()
            waves, measured = self.waves[at], self.waves[at] + changes[at]
            total += squared(shared - measured).sum()
            waves.mul_(beta).add_(beta * shared + (1 - 2 * beta) * measured)
        return total
