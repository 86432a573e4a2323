"""DM, RAAR and APG: all patterns at once, between what was measured and the overlap."""

from typing import get_args

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from ptystream.errors import ConfigError
from ptystream.recon.classical.optics import squared
from ptystream.recon.classical.options import ApgOptions, DmOptions, Noise, RaarOptions
from ptystream.recon.classical.overlap import Overlapping
from ptystream.recon.classical.problem import Problem


class DM(Overlapping):
    """Difference map (Thibault et al., Ultramicroscopy 109, 338, 2009; β = 1).

    ψ += Π_F(2 Π_O ψ − ψ) − Π_O ψ.
    """

    def __init__(self, problem: Problem, options: DmOptions | None = None) -> None:
        super().__init__(problem, options or DmOptions())

    def _sweep(self) -> Float[Tensor, ""]:
        self.project(self.waves)
        total = torch.zeros_like(self.optics.power)
        for at in self.optics.batches(self._overlap.batch):
            shared = self.optics.views(self.object, self.probe, at).waves()
            mirrored = 2 * shared - self.waves[at]
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


class APG(Overlapping):
    """Accelerated proximal gradient, of the family of Yan (New J. Phys. 22, 023035,
    2020).

    The general iteration (Parikh and Boyd, Found. Trends Optim. 1, 127, 2014, § 4.3)
    φ = ψ + ω(ψ − ψ₋), ψ ← prox_g(φ − λ∇f(φ)) with ω = i/(i + 3), on the exit waves: f
    is half the squared distance to the overlap set, so ∇f = φ − Π_O φ and λ = 1 is the
    largest step that is safe; g is the likelihood of the patterns, and acts on the
    amplitudes alone (``Proximal``).
    """

    def __init__(self, problem: Problem, options: ApgOptions | None = None) -> None:
        self._options = options or ApgOptions()
        self._proximal = Proximal(self._options)
        super().__init__(problem, self._options)

    def _restart(self) -> None:
        super()._restart()
        self._before, self._steps = self.waves.clone(), 0

    @property
    def momentum(self) -> float:
        """ω of the next sweep: 0, ¼, ⅖ … towards 1."""
        return self._steps / (self._steps + 3)

    def _sweep(self) -> Float[Tensor, ""]:
        ahead = self._before.sub_(self.waves).mul_(-self.momentum).add_(self.waves)
        self._before, self.waves = self.waves, ahead
        self.project(ahead)
        total = torch.zeros_like(self.optics.power)
        for at in self.optics.batches(self._options.batch):
            shared = self.optics.views(self.object, self.probe, at).waves()
            waves = self.waves[at].lerp_(shared, self._options.step)
            change, _ = self.optics.to_measured(waves, at, self._proximal)
            waves += change
            total += squared(waves - shared).sum()
        self._steps += 1
        return total


class Proximal:
    """The amplitude that balances likelihood and distance, of model m and data A.

    minimises ½(a − m)² + w L(a): ``gaussian`` L = ½(a − A)² gives (m + wA)/(1 + w);
    ``poisson`` L = a² − A² ln a² the positive root of (1 + 2w)a² − ma − 2wA² = 0;
    ``exact`` is A.
    """

    def __init__(self, options: ApgOptions) -> None:
        if options.noise not in get_args(Noise):
            raise ConfigError(f"noise {options.noise!r}: expected {get_args(Noise)}")
        self._noise, self._weight = options.noise, options.weight

    def __call__(
        self, model: Float[Tensor, "b k k"], seen: Float[Tensor, "b k k"]
    ) -> Float[Tensor, "b k k"]:
        """Return the amplitudes."""
        if self._noise == "exact":
            return seen
        if self._noise == "gaussian":
            return (model + self._weight * seen) / (1 + self._weight)
        twice, root = 1 + 2 * self._weight, 8 * self._weight
        inner = model.square() + root * twice * seen.square()
        return (model + inner.sqrt()) / (2 * twice)
