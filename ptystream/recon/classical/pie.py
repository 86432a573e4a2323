"""The ptychographic iterative engines: extended and regularised."""

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from ptystream.recon.classical.optics import Batch, Views
from ptystream.recon.classical.options import EpieOptions, RpieOptions
from ptystream.recon.classical.problem import Problem
from ptystream.recon.classical.sequential import Sequential


class EPIE(Sequential):
    """Extended PIE (Maiden and Rodenburg, Ultramicroscopy 109, 1256, 2009).

    O += α P* Δψ / max|P|², P += β O* Δψ / max|O|², where Δψ = Π(ψ) − ψ and O is the
    patch before its own update. Modes share the object (Thibault and Menzel, Nature
    494, 68, 2013): Σ over modes in P* Δψ and in |P|².
    """

    def __init__(self, problem: Problem, options: EpieOptions | None = None) -> None:
        self._options = options or EpieOptions()
        super().__init__(problem, self._options)

    def _learn(
        self, at: Batch, views: Views, change: Complex[Tensor, "b m k k"]
    ) -> None:
        o = self._options
        by_light = o.object_step / _peak(views.light())
        by_object = o.probe_step / _peak(views.transmitted())
        self._step(at, views, change, by_light, by_object)


class RPIE(Sequential):
    """Regularised PIE (Maiden, Johnson and Li, Optica 4, 736, 2017).

    ePIE with max|P|² replaced by (1 − α)|P|² + α max|P|², and likewise for |O|².
    """

    def __init__(self, problem: Problem, options: RpieOptions | None = None) -> None:
        self._options = options or RpieOptions()
        super().__init__(problem, self._options)

    def _learn(
        self, at: Batch, views: Views, change: Complex[Tensor, "b m k k"]
    ) -> None:
        o = self._options
        by_light = 1 / _mixed(views.light(), o.object_alpha)
        by_object = 1 / _mixed(views.transmitted(), o.probe_alpha)
        self._step(at, views, change, by_light, by_object)


def _peak(light: Float[Tensor, "c k k"]) -> Float[Tensor, "c 1 1"]:
    """Return the largest of each pattern, kept from zero."""
    return light.amax((1, 2), keepdim=True).clamp_min(torch.finfo(light.dtype).tiny)


def _mixed(light: Float[Tensor, "c k k"], alpha: float) -> Float[Tensor, "c k k"]:
    """Return (1 − α) light + α max(light)."""
    return (1 - alpha) * light + alpha * _peak(light)
