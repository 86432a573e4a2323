"""The ptychographic iterative engines: one pattern after the other, in random order."""

from abc import abstractmethod

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from ptystream.recon.classical.engine import Engine
from ptystream.recon.classical.groups import apart
from ptystream.recon.classical.optics import Batch, Views, squared
from ptystream.recon.classical.options import EpieOptions, RpieOptions, WaspOptions
from ptystream.recon.classical.problem import Problem


class _Sequential(Engine):
    """Takes the waves of a few patterns, projects them, and lets ``_learn`` use it."""

    _group = 1

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
        by_light: Float[Tensor, "c k k"],
        by_object: Float[Tensor, "b k k"],
    ) -> None:
        """Step object and probe: P*Δψ times ``by_light``, O*Δψ times ``by_object``."""
        step = (views.modes.conj() * change).sum(1)
        self.optics.add_patches(self.object, step * by_light, at)
        if self.learns_probe:
            steps = change * (views.patch.conj() * by_object)[:, None]
            self.probe += self.optics.sum_modes(steps, at) / len(views.patch)


class EPIE(_Sequential):
    """Extended PIE (Maiden and Rodenburg, Ultramicroscopy 109, 1256, 2009).

    O += α P* Δψ / max|P|², P += β O* Δψ / max|O|², where Δψ = Π(ψ) − ψ and O is the
    patch before its own update. Modes share the object (Thibault and Menzel, Nature
    494, 68, 2013): Σ over modes in P* Δψ and in |P|².
    """

    def __init__(self, problem: Problem, options: EpieOptions | None = None) -> None:
        self._options = options or EpieOptions()
        self._group = self._options.group
        super().__init__(problem, self._options)

    def _learn(
        self, at: Batch, views: Views, change: Complex[Tensor, "b m k k"]
    ) -> None:
        o = self._options
        by_light = o.object_step / _peak(views.light())
        by_object = o.probe_step / _peak(views.transmitted())
        self._step(at, views, change, by_light, by_object)


class RPIE(_Sequential):
    """Regularised PIE (Maiden, Johnson and Li, Optica 4, 736, 2017).

    ePIE with max|P|² replaced by (1 − α)|P|² + α max|P|², and likewise for |O|².
    """

    def __init__(self, problem: Problem, options: RpieOptions | None = None) -> None:
        self._options = options or RpieOptions()
        self._group = self._options.group
        super().__init__(problem, self._options)

    def _learn(
        self, at: Batch, views: Views, change: Complex[Tensor, "b m k k"]
    ) -> None:
        o = self._options
        by_light = 1 / _mixed(views.light(), o.object_alpha)
        by_object = 1 / _mixed(views.transmitted(), o.probe_alpha)
        self._step(at, views, change, by_light, by_object)


class WASP(_Sequential):
    """Weighted average of sequential projections (Maiden, Mei and Li, Opt. Express 32,
    21327, 2024).

    A sweep of projections in sequence, O += P* Δψ / (|P|² + α mean|P|²) and
    P += O* Δψ / (|O|² + β); then O = Σ P* Π(ψ) / Σ |P|² and P = Σ O* Π(ψ) / Σ |O|²,
    the sums gathered on the way: with the updated probe, and the patch before its
    update, as the authors' program does.
    """

    def __init__(self, problem: Problem, options: WaspOptions | None = None) -> None:
        self._options = options or WaspOptions()
        self._group = self._options.group
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
        crossed = views.transmitted()
        by_light = 1 / (light + o.object_alpha * light.mean((1, 2), keepdim=True))
        self._step(at, views, change, by_light, 1 / (crossed + o.probe_beta))
        self._gather(at, views, views.waves() + change)

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


def _peak(light: Float[Tensor, "c k k"]) -> Float[Tensor, "c 1 1"]:
    """Return the largest of each pattern, kept from zero."""
    return light.amax((1, 2), keepdim=True).clamp_min(torch.finfo(light.dtype).tiny)


def _mixed(light: Float[Tensor, "c k k"], alpha: float) -> Float[Tensor, "c k k"]:
    """Return (1 − α) light + α max(light)."""
    return (1 - alpha) * light + alpha * _peak(light)


def _average(total: Tensor, weight: Tensor, before: Tensor) -> Tensor:
    """Return total / weight; what has hardly any weight stays as it was."""
    floor = 1e-10 * weight.max()
    return torch.where(weight > floor, total / weight.clamp_min(floor), before)
