"""From object window and probe to patterns, and back to what they say of both.

``FusedOptics`` is the common case by hand; ``GeneralOptics`` everything else, by
automatic differentiation of ``physics.forward``. Both speak the same units, so that a
learner can't tell them apart.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple, Protocol

import torch
from jaxtyping import Bool, Complex, Float, Int
from torch import Tensor

from ptystream.physics import fused
from ptystream.physics.forward import (
    Background,
    Detector,
    cut,
    fly_intensity,
    intensity,
    quadrature,
)
from ptystream.physics.fused import Patterns, patch_index
from ptystream.physics.losses import (
    amplitude_l1,
    amplitude_l2,
    poisson_deviance,
    smooth_l1,
)
from ptystream.physics.propagate import convolve, far_field
from ptystream.recon.nuisance import Nuisance
from ptystream.recon.optim import Adam

LossName = Literal["smooth_l1", "l1", "l2", "poisson"]
FLOOR = 1e-2
"""Poisson: added to both intensities, in units of their mean. Without it a photon where
none was predicted outweighs the rest of the pattern."""


class Gradients(NamedTuple):
    """What one batch says of object and probe.

    ``loss`` ``[b]`` is each pattern's mean. The gradients are those of ``scale`` times
    the sum over patterns and pixels: for small errors of ½ Σ (a - A)², whatever the
    loss. ``illumination`` ``[s, h, w]`` is the light that each slice was seen in over
    the batch, ``transmission`` Σ|O|² over the batch, mean over the patch.
    """

    loss: Float[Tensor, " b"]
    scale: float | Float[Tensor, ""]
    by_window: Complex[Tensor, "s h w"]
    illumination: Float[Tensor, "#s h w"]
    by_probe: Complex[Tensor, "m k k"]
    transmission: Float[Tensor, ""]


class Shots(NamedTuple):
    """A batch's patterns, and where each exposure began and ended.

    ``path_px`` ``[b, 2, 2]`` is start and end (y, x) beside the patch's corner, None
    where the stage stood; ``frame`` ``[b]`` numbers the exposures, for what is learned
    of each; None where nothing is.
    """

    patterns: Patterns
    path_px: Float[Tensor, "b 2 2"] | None = None
    frame: Int[Tensor, " b"] | None = None


class Optics(Protocol):
    """An experiment: its forward model, its loss, and what it learns of itself."""

    def gradients(
        self,
        window: Complex[Tensor, "s h w"],
        probe: Complex[Tensor, "m k k"],
        shots: Shots,
        *,
        probe_too: bool,
    ) -> Gradients:
        """Return loss and gradients; without ``probe_too`` the probe's may be zero."""
        ...

    def predict(
        self,
        window: Complex[Tensor, "s h w"],
        probe: Complex[Tensor, "m k k"],
        shots: Shots,
    ) -> Float[Tensor, "b k k"]:
        """Return the amplitudes that the detector should see."""
        ...

    def learn(self, fade: float, finite: Bool[Tensor, ""]) -> None:
        """Learn background, positions … from the last gradients, where finite."""
        ...

    def forget(self) -> None:
        """Drop what the last gradients said of background, positions and so on."""
        ...

    def fit(
        self,
        window: Complex[Tensor, "s h w"],
        probe: Complex[Tensor, "m k k"],
        shots: Shots,
        fade: float,
    ) -> None:
        """Fit what is each exposure's own, and nothing that it shares with others."""
        ...


class FusedOptics:
    """One slice, far field, no motion, smooth-L1: ``physics.fused``."""

    def __init__(self, *, beta: float) -> None:
        self._beta = beta

    def gradients(
        self,
        window: Complex[Tensor, "1 h w"],
        probe: Complex[Tensor, "m k k"],
        shots: Shots,
        *,
        probe_too: bool,
    ) -> Gradients:
        """Return loss and gradients."""
        got = fused.gradients(
            window[0], probe, shots.patterns, beta=self._beta, probe_too=probe_too
        )
        return Gradients(
            got.loss,
            self._beta,
            got.by_window[None],
            got.illumination[None],
            got.by_probe,
            got.transmission,
        )

    def predict(
        self,
        window: Complex[Tensor, "1 h w"],
        probe: Complex[Tensor, "m k k"],
        shots: Shots,
    ) -> Float[Tensor, "b k k"]:
        """Return the amplitudes that the detector should see."""
        return fused.predict(window[0], probe, shots.patterns)

    def learn(self, fade: float, finite: Bool[Tensor, ""]) -> None:
        """Do nothing: there is nothing else to learn."""

    def forget(self) -> None:
        """Do nothing: there is nothing to drop."""

    def fit(
        self,
        window: Complex[Tensor, "1 h w"],
        probe: Complex[Tensor, "m k k"],
        shots: Shots,
        fade: float,
    ) -> None:
        """Do nothing: there is nothing to fit."""


@dataclass(frozen=True, slots=True)
class Way:
    """How waves go: between slices by a kernel, to the detector, and while it moves."""

    between: Complex[Tensor, "k k"] | None = None
    detector: Detector = far_field
    points: int = 1
    rule: str = "gauss"


class GeneralOptics:
    """Any experiment that ``physics.forward`` describes."""

    def __init__(
        self,
        way: Way,
        *,
        loss: LossName,
        beta: float,
        background: Background | None = None,
        background_rate: float = 0.0,
        nuisance: Nuisance | None = None,
    ) -> None:
        self._way, self.background, self.nuisance = way, background, nuisance
        self._loss, self._scale = _loss(loss, beta)
        self._rate = background_rate
        self._adam = Adam([] if background is None else background.parameters())
        self._frame: Tensor | None = None

    def gradients(
        self,
        window: Complex[Tensor, "s h w"],
        probe: Complex[Tensor, "m k k"],
        shots: Shots,
        *,
        probe_too: bool,
    ) -> Gradients:
        """Return loss and gradients."""
        self._frame = shots.frame
        window = window.detach().requires_grad_()
        probe = probe.detach().requires_grad_(probe_too)
        with torch.enable_grad():
            losses = self._losses(self._intensity(window, probe, shots), shots)
            mean = losses.detach().mean()
            scale = mean if self._scale is None else self._scale
            (scale * losses * _pixels(shots)).sum().backward()
        by_window, by_probe = window.grad, probe.grad
        with torch.no_grad():
            return Gradients(
                losses.detach(),
                scale,
                torch.zeros_like(window) if by_window is None else by_window,
                len(window) * self._illumination(window, probe, shots),
                torch.zeros_like(probe) if by_probe is None else by_probe,
                _transmission(window, probe, shots),
            )

    @torch.no_grad()
    def predict(
        self,
        window: Complex[Tensor, "s h w"],
        probe: Complex[Tensor, "m k k"],
        shots: Shots,
    ) -> Float[Tensor, "b k k"]:
        """Return the amplitudes that the detector should see."""
        return self._intensity(window, probe, shots).sqrt()

    def learn(self, fade: float, finite: Bool[Tensor, ""]) -> None:
        """Take a step with background, positions and brightness."""
        self._adam.update(self._rate * fade, finite)
        if self.nuisance is not None and self._frame is not None:
            self.nuisance.learn(self._frame, fade, finite)

    def forget(self) -> None:
        """Drop what the last gradients said of background, positions and brightness."""
        if self.background is not None:
            self.background.root.grad = None
        if self.nuisance is not None:
            self.nuisance.forget_gradients()

    def fit(
        self,
        window: Complex[Tensor, "s h w"],
        probe: Complex[Tensor, "m k k"],
        shots: Shots,
        fade: float,
    ) -> None:
        """Fit places and brightness of these exposures."""
        if self.nuisance is None or shots.frame is None:
            return
        with torch.enable_grad():
            losses = self._losses(self._intensity(window, probe, shots), shots)
            losses.sum().backward()
        if self.background is not None:
            self.background.root.grad = None
        finite = torch.isfinite(losses.detach()).all()
        self.nuisance.fit(shots.frame, fade, finite)

    def _intensity(
        self,
        window: Complex[Tensor, "s h w"],
        probe: Complex[Tensor, "m k k"],
        shots: Shots,
    ) -> Float[Tensor, "b k k"]:
        """Return what the detector should count, a mean of 1 a pixel."""
        way, nuisance = self._way, self.nuisance
        start, end = self._places(shots)
        through: dict[str, Any] = {
            "between": way.between,
            "detector": way.detector,
            "checked": False,  # the window was made to hold them: ``Engine.place``
        }
        if way.points == 1 or shots.path_px is None:
            model = intensity(probe, window, start, **through)
        else:
            through |= {"points": way.points, "rule": way.rule}
            model = fly_intensity(probe, window, start, end, **through)
        if nuisance is not None and shots.frame is not None:
            model = model * nuisance.brightness(shots.frame)[:, None, None]
        return model if self.background is None else model + self.background()

    def _places(
        self, shots: Shots
    ) -> tuple[Float[Tensor, "b 2"], Float[Tensor, "b 2"]]:
        """Return where the patch lies when the exposure starts, and when it ends."""
        corners, beside = shots.patterns.corners, shots.patterns.shift_px
        if self._way.points > 1 and shots.path_px is not None:
            start, end = (corners + shots.path_px[:, i] for i in (0, 1))
        else:
            start = end = corners.float() if beside is None else corners + beside
        if self.nuisance is None or shots.frame is None:
            return start, end
        moves = self.nuisance.moves(shots.frame)
        return start + moves, end + moves

    def _losses(self, model: Float[Tensor, "b k k"], shots: Shots) -> Tensor:
        """Return each pattern's mean loss."""
        counts, mask = shots.patterns.amplitude.square(), shots.patterns.mask
        if mask is None:
            return torch.vmap(self._loss)(model, counts)
        each = torch.vmap(
            lambda m, n, used: self._loss(m, n, mask=used),
            in_dims=(0, 0, 0 if mask.ndim == 3 else None),
        )
        return each(model, counts, mask)

    def _illumination(
        self,
        window: Complex[Tensor, "s h w"],
        probe: Complex[Tensor, "m k k"],
        shots: Shots,
    ) -> Float[Tensor, "s h w"]:
        """Return the light of the batch on each slice, as if the others were empty."""
        light = [probe]
        for _ in window[1:]:
            light.append(convolve(light[-1], self._kernel()))
        power = torch.stack([x.abs().square().sum(0) for x in light])
        out = power.new_zeros(len(window), window[0].numel())
        start, end = self._places(shots)
        points = 1 if shots.path_px is None else self._way.points
        for place, weight in quadrature(points, self._way.rule):
            corners = (start + place * (end - start)).round().long()
            index = patch_index(corners, probe.shape[-1], window.shape[-1]).flatten()
            spread = power[:, None].expand(-1, len(corners), -1, -1)
            out.index_add_(1, index, weight * spread.reshape(len(out), -1))
        return out.view(window.shape)

    def _kernel(self) -> Complex[Tensor, "k k"]:
        """Return what takes waves from slice to slice."""
        if self._way.between is None:
            raise ValueError("several slices need the kernel between them")
        return self._way.between


def _loss(name: LossName, beta: float) -> tuple[Callable[..., Tensor], float | None]:
    """Return a loss, and what brings it to ½(a - A)²; None: its own mean does.

    The slope of an absolute difference does not know how large the error is, so a step
    against it would never end; times the mean error it shrinks along.
    """
    if name == "smooth_l1":
        return partial(smooth_l1, beta=beta), beta
    if name == "l1":
        return amplitude_l1, None
    if name == "l2":
        return amplitude_l2, 0.5
    return partial(poisson_deviance, floor_counts=FLOOR), 1 / 8


def _pixels(shots: Shots) -> float | Float[Tensor, "#b"]:
    """Return over how many pixels each pattern's mean was taken."""
    mask = shots.patterns.mask
    if mask is None:
        return shots.patterns.amplitude[0].numel()
    return mask.sum((-2, -1)).clamp_min(1)


def _transmission(
    window: Complex[Tensor, "s h w"], probe: Complex[Tensor, "m k k"], shots: Shots
) -> Float[Tensor, ""]:
    """Return Σ|O|² over the batch, mean over the patch, of all slices together."""
    size = probe.shape[-1]
    through = window.prod(0, keepdim=True)
    patches = cut(through, shots.patterns.corners, size, checked=False)
    return fused.energy(patches) / size**2
