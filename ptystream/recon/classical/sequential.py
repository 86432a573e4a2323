"""Engines that take one pattern after the other, in random order."""

from abc import abstractmethod

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from ptystream.recon.classical.engine import Engine
from ptystream.recon.classical.groups import apart
from ptystream.recon.classical.optics import Batch, Views
from ptystream.recon.classical.options import SequentialOptions
from ptystream.recon.classical.problem import Problem


class Sequential(Engine):
    """Takes the waves of a few patterns, projects them, and lets ``_learn`` use it."""

    def __init__(self, problem: Problem, options: SequentialOptions) -> None:
        self._group = options.group
        super().__init__(problem, options)

    def _sweep(self) -> Float[Tensor, ""]:
        total = torch.zeros_like(self.optics.power)
        groups = apart(
            self.optics.corners,
            size=self.optics.size,
            group=self._group,
            random=self._random,
        )
        for at in groups:
            views = self.optics.views(self.object, self.probe, at)
            change, misfit = self.optics.to_measured(views.waves(), at)
            self._learn(at, views, change)
            total += misfit
        return total

    @abstractmethod
    def _learn(
        self, at: Batch, views: Views, change: Complex[Tensor, "b m k k"]
    ) -> None:
        """Change object and probe, given Π(ψ) − ψ."""
        ...

    def _restart(self) -> None:
        """Nothing is kept between sweeps."""

    def _step(
        self,
        at: Batch,
        views: Views,
        change: Complex[Tensor, "b m k k"],
        by_light: Float[Tensor, "#b #k #k"],
        by_object: Float[Tensor, "#b #k #k"],
    ) -> None:
        """Step object and probe: P*Δψ times ``by_light``, O*Δψ times ``by_object``."""
        step = (views.modes.conj() * change).sum(1)
        self.optics.add_patches(self.object, step * by_light, at)
        if self.learns_probe:
            steps = change * (views.patch.conj() * by_object)[:, None]
            self.probe += self.optics.sum_modes(steps, at) / len(views.patch)
