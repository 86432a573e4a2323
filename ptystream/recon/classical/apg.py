"""APG: accelerated proximal gradient on the exit waves."""

from typing import get_args

import torch
from jaxtyping import Float
from torch import Tensor

from ptystream.errors import ConfigError
from ptystream.recon.classical.optics import squared
from ptystream.recon.classical.options import ApgOptions, Noise
from ptystream.recon.classical.overlap import Overlapping
from ptystream.recon.classical.problem import Problem


class APG(Overlapping):
    """Accelerated proximal gradient.

    One of the proximal engines that Yan proposes (New J. Phys. 22, 023035, 2020). Here
    the general iteration (Parikh and Boyd, Found. Trends Optim. 1, 127, 2014, § 4.3) is
    applied to the exit waves: φ = ψ + ω(ψ − ψ₋), ψ ← prox_g(φ − λ∇f(φ)), ω = i/(i + 3).
    f is half the squared distance to the overlap set: ∇f = φ − Π_O φ, so λ = 1 leaves
    Π_O φ alone. g is the likelihood of the patterns, of which the proximal map acts on
    the amplitudes (``Proximal``).
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
        """ω of the next sweep: 0, ¼, ⅖ … towards 1, or always 0."""
        return self._steps / (self._steps + 3) if self._options.momentum else 0.0

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
