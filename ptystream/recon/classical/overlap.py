"""The overlap projection: the object and the probe that explain a set of exit waves."""

import torch
from jaxtyping import Complex
from torch import Tensor

from ptystream.errors import ConfigError
from ptystream.recon.classical.engine import Engine
from ptystream.recon.classical.optics import squared
from ptystream.recon.classical.options import ProjectionOptions
from ptystream.recon.classical.problem import Problem


class Overlapping(Engine):
    """Keeps all exit waves, ``[n, m, k, k]``; RAAR and APG hold three such arrays."""

    def __init__(self, problem: Problem, options: ProjectionOptions) -> None:
        if options.inner < 1:
            raise ConfigError(f"inner {options.inner}: expected at least 1")
        self._overlap = options
        super().__init__(problem, options)

    def _restart(self) -> None:
        self.waves = torch.cat(
            [
                self.optics.views(self.object, self.probe, at).waves()
                for at in self.optics.batches(self._overlap.batch)
            ]
        )

    def project(self, waves: Complex[Tensor, "n m k k"]) -> None:
        """Fit object and probe to the waves, in turn, ``inner`` times.

        Minimises Σ|ψ − P O|² (Thibault et al., Ultramicroscopy 109, 338, 2009):
        O = Σ P* ψ / Σ |P|², then P = Σ O* ψ / Σ |O|². Both are written as steps from
        where they are: the same, but for what no light reaches, which stays.
        """
        for _ in range(self._overlap.inner if self.learns_probe else 1):
            self._fit_object(waves)
            if self.learns_probe:
                self._fit_probe(waves)

    def _fit_object(self, waves: Complex[Tensor, "n m k k"]) -> None:
        total = torch.zeros_like(self.object)
        light = torch.zeros_like(self.object.real)
        for at in self.optics.batches(self._overlap.batch):
            modes = self.optics.modes(self.probe, at)
            by_light = (modes.conj() * waves[at]).sum(1)
            self.optics.add_patches(total, by_light, at)
            self.optics.add_patches(light, squared(modes).sum(1), at)
        held = self._overlap.inertia * light.max()
        weight = light + held.clamp_min(torch.finfo(light.dtype).tiny)
        self.object += (total - light * self.object) / weight

    def _fit_probe(self, waves: Complex[Tensor, "n m k k"]) -> None:
        total = torch.zeros_like(self.probe)
        light = torch.zeros_like(self.probe[0].real)
        for at in self.optics.batches(self._overlap.batch):
            views = self.optics.views(self.object, self.probe, at)
            beside = waves[at] - views.waves()
            total += self.optics.sum_modes(beside * views.patch.conj()[:, None], at)
            light += views.transmitted().sum(0)
        self.probe += total / light.clamp_min(torch.finfo(light.dtype).tiny)
