"""How a field learns from the gradient of its window."""

import math
from collections.abc import Callable
from typing import Protocol

import torch
from jaxtyping import Bool, Complex, Float
from torch import Tensor

from ptystream.models.field import Box, Field
from ptystream.models.pixels import Pixels
from ptystream.physics.fused import energy
from ptystream.recon.aberrations import Aberrations
from ptystream.recon.optim import Adam, TileAdam


class Learner(Protocol):
    """Gives a window, takes its gradient back, and keeps the optimiser's state.

    ``by_light``: it wants gradients divided by the light that they were measured in.
    """

    by_light: bool

    @property
    def field(self) -> Field:
        """What learns."""
        ...

    def window(self, box: Box) -> Complex[Tensor, "s h w"]:
        """Return the field on the box, cut from the graph."""
        ...

    def learn(
        self,
        gradient: Complex[Tensor, "s h w"],
        trust: Float[Tensor, "h w"],
        fade: float,
        finite: Bool[Tensor, ""],
    ) -> None:
        """Move the field of the last window against a gradient.

        Divided by light, a gradient of 1 asks for a change of -1, and ``trust`` in 0..1
        says how much light stands behind it; ``fade`` ≤ 1 scales the rates; nothing
        changes where ``finite`` is false.
        """
        ...


class PixelLearner:
    """Steps of pixels with momentum: as in ePIE and its kin, by mini-batch.

    With ``settling``, the rate of each pixel falls with its own age, so that noise
    averages out where the scan has long been and new area learns at full rate; a
    ``calm`` below 1 makes it fall less, 0 not at all. Of a probe, ``aberrations`` are
    turned first; with ``patient`` its pixels wait until they are near.
    """

    by_light = True

    def __init__(
        self,
        field: Pixels,
        *,
        rate: float,
        momentum: float,
        settling: float = math.inf,
        constraint: Callable[[Tensor], Tensor] | None = None,
        aberrations: Aberrations | None = None,
    ) -> None:
        self._aberrations = aberrations
        self.field, self._rate, self._momentum = field, rate, momentum
        self._settling, self._constraint = settling, constraint
        self.calm = 1.0
        self.patient = False
        self._box = Box(0, 0, 0, 0)

    def window(self, box: Box) -> Complex[Tensor, "s h w"]:
        """Return the pixels of the box."""
        self._box = box
        with torch.no_grad():
            return self.field.window(box)

    @torch.no_grad()
    def learn(
        self,
        gradient: Complex[Tensor, "s h w"],
        trust: Float[Tensor, "h w"],
        fade: float,
        finite: Bool[Tensor, ""],
    ) -> None:
        """Move the pixels; their momentum is kept where the canvas keeps means."""
        if self._aberrations is not None and not self._aberrations.done:
            now = self.window(self._box)
            self._hold(self._aberrations.turn(now, gradient, fade, finite))
            if self.patient and not self._aberrations.near:
                return
        canvas = self.field.canvas
        at = (slice(None), *canvas.slices(self._box))
        pairs = torch.stack([gradient.real, gradient.imag], 1)
        age = canvas.age[at[1:]]
        rate = self._rate * fade * (1 + age * (self.calm / self._settling)).rsqrt_()
        age += torch.where(finite, trust, 0)
        push = torch.where(finite, pairs.reshape(-1, *gradient.shape[1:]) * rate, 0)
        speed = canvas.mean[at]
        speed.mul_(torch.where(finite, self._momentum, 1.0)).sub_(push)
        canvas.values[at].addcmul_(speed, finite.float())
        if self._constraint is not None:
            self._hold(self.window(self._box))

    def _hold(self, values: Complex[Tensor, "s h w"]) -> None:
        """Put these pixels, as they must be, in the last window's place."""
        if self._constraint is not None:
            values = self._constraint(values)
        self.field.write(self._box, values)


class NeuralLearner:
    """Adam on a network and on the tiles of its canvases."""

    def __init__(
        self, field: Field, *, net_rate: float, tiles: TileAdam, by_light: bool = True
    ) -> None:
        self.field, self.by_light = field, by_light
        self._net_rate, self._tiles = net_rate, tiles
        self._adam = Adam(field.parameters())
        self._window: Tensor | None = None

    def window(self, box: Box) -> Complex[Tensor, "s h w"]:
        """Return the field on the box; its graph is kept for ``learn``."""
        window = self.field.window(box)
        self._window = window
        return window.detach()

    def learn(
        self,
        gradient: Complex[Tensor, "s h w"],
        trust: Float[Tensor, "h w"],
        fade: float,
        finite: Bool[Tensor, ""],
    ) -> None:
        """Carry the gradient through the network and take one step of Adam."""
        window, self._window = self._window, None
        if window is None:
            raise RuntimeError("learn() without a window() before it")
        window.backward(torch.where(finite, gradient, 0) / gradient.numel())
        for tile in getattr(self.field, "tiles", []):
            self._tiles.update(tile, fade, finite)
        self._adam.update(self._net_rate * fade, finite)


def at_unit_light(probe: Complex[Tensor, "m k k"]) -> Complex[Tensor, "m k k"]:
    """Return the probe with a mean square of 1 a pixel, all modes together."""
    return probe * rms(probe).reciprocal()


def rms(values: Complex[Tensor, "m k k"]) -> Float[Tensor, ""]:
    """Return the root of the light in all modes, per pixel."""
    return (energy(values) / values[0].numel()).sqrt()
