"""What every classical engine is: a state, and sweeps that leave it finite."""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from ptystream.errors import ConfigError
from ptystream.physics.constraints import clamp_amplitude, fix_energy
from ptystream.recon.classical.optics import Optics
from ptystream.recon.classical.options import Options
from ptystream.recon.classical.problem import Problem


class Engine(ABC):
    """Object ``[h, w]`` on the problem's canvas, probe ``[m, k, k]``, and a sweep.

    An engine states its update in ``_sweep``, and in ``_restart`` how to begin (again)
    from object and probe as they stand.
    """

    def __init__(self, problem: Problem, options: Options) -> None:
        if options.batch < 1:
            raise ConfigError(f"batch {options.batch}: expected at least 1 pattern")
        self._common = options
        self.optics = Optics(problem)
        kind = problem.amplitude.dtype.to_complex()
        self.probe: Complex[Tensor, "m k k"] = problem.probe.to(kind, copy=True)
        if problem.rescale:
            light = float(self.optics.power) / self.optics.patterns
            self.probe = fix_energy(self.probe, light)
        self.object: Complex[Tensor, "h w"] = (
            self.probe.new_ones(problem.canvas[2:])
            if problem.object is None
            else problem.object.to(kind, copy=True)
        )
        self.sweeps = self.refused = 0
        self._random = torch.Generator().manual_seed(options.seed)
        self._restart()

    @torch.no_grad()
    def sweep(self) -> float:
        """Use every pattern once; return the misfit on the way, relative to ΣA².

        It is Σ(a − A)² of the patterns as they came (ePIE, rPIE, WASP, AD), or the
        squared distance of the two projections (DM, RAAR, APG): 0 at a solution for
        both. A sweep that is not finite is undone, counted in ``refused``, and NaN.
        """
        kept = self.object.clone(), self.probe.clone()
        misfit = self._sweep()
        if self._common.ceiling is not None:
            top = self._common.ceiling
            self.object.copy_(clamp_amplitude(self.object[None], high=top)[0])
        ends = (misfit, *map(torch.view_as_real, (self.object, self.probe)))
        if not all(bool(torch.isfinite(end).all()) for end in ends):
            self.object.copy_(kept[0])
            self.probe.copy_(kept[1])
            self.refused += 1
            self._restart()
            return float("nan")
        self.sweeps += 1
        return float(misfit / self.optics.power)

    @torch.no_grad()
    def error(self) -> float:
        """Return Σ(a − A)²/ΣA² of object and probe as they stand: a pass of its own."""
        total = torch.zeros_like(self.optics.power)
        for at in self.optics.batches(self._common.batch):
            waves = self.optics.views(self.object, self.probe, at).waves()
            total += self.optics.to_measured(waves, at)[1]
        return float(total / self.optics.power)

    @property
    def learns_probe(self) -> bool:
        """Whether this sweep may change the probe."""
        start = self._common.probe_from
        return start is not None and self.sweeps >= start

    @abstractmethod
    def _sweep(self) -> Float[Tensor, ""]:
        """Change object and probe, in place; return the misfit, not yet relative."""
        ...

    @abstractmethod
    def _restart(self) -> None:
        """Forget everything but object and probe."""
        ...
