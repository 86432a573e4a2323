"""Hard constraints on object and probe, and the networks that stand under them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Complex
from torch import Tensor, nn

from ptystream.models.canvas import Tile
from ptystream.models.field import Box, Field
from ptystream.models.unet import UNetField
from ptystream.physics.constraints import (
    clamp_amplitude,
    identical_slices,
    normalise_by_maximum,
    orthogonalise,
)
from ptystream.physics.forward import ObjectKind
from ptystream.recon.learners import at_unit_light

Constraint = Callable[[Tensor], Tensor]


class ObjectHold:
    """What an object must be: of its kind, of bounded amplitude, at first one slice.

    ``identical`` makes all slices the same; whoever owns the schedule lets go of it.
    """

    def __init__(
        self, kind: ObjectKind, *, amplitude_max: float | None, identical: bool
    ) -> None:
        self._kind, self._most, self.identical = kind, amplitude_max, identical

    @property
    def idle(self) -> bool:
        """Whether it never changes anything."""
        return self._kind == "complex" and self._most is None and not self.identical

    def __call__(self, window: Complex[Tensor, "s h w"]) -> Complex[Tensor, "s h w"]:
        """Return the window as it must be; differentiable."""
        if self.identical:
            window = identical_slices(window)
        if self._kind != "complex":
            phase_rad = window.angle()
            if self._kind == "potential":
                phase_rad = phase_rad.clamp_min(0)
            return torch.polar(torch.ones_like(phase_rad), phase_rad)
        return window if self._most is None else clamp_amplitude(window, 0, self._most)


def probe_hold(peak: float | None, *, orthogonal: bool) -> Constraint:
    """Return what holds a probe: unit light, or this largest amplitude.

    ``orthogonal`` mixes its modes as well.
    """

    def hold(probe: Complex[Tensor, "m k k"]) -> Complex[Tensor, "m k k"]:
        if orthogonal:
            probe = orthogonalise(probe)
        if peak is None:
            return at_unit_light(probe)
        return normalise_by_maximum(probe, peak)

    return hold


class Held(nn.Module):
    """A network under a constraint, which its gradient passes through."""

    def __init__(self, inner: Field, hold: Constraint) -> None:
        super().__init__()
        self.inner, self.hold = inner, hold

    @property
    def tiles(self) -> list[Tile]:
        """What the last window was made of, where the network has feature grids."""
        return getattr(self.inner, "tiles", [])

    @property
    def whole(self) -> bool:
        """Whether a window costs as much as all of it."""
        return isinstance(self.inner, UNetField) and self.inner.whole

    def window(self, box: Box) -> Complex[Tensor, "s h w"]:
        """Return the field on the box, as it must be."""
        return self.hold(self.inner.window(box))

    def cover(self, box: Box) -> bool:
        """Make room for the box."""
        return self.inner.cover(box)

    def see(self, box: Box, estimate: Complex[Tensor, "s h w"]) -> None:
        """Take the estimate as input, where the network has one."""
        if isinstance(self.inner, UNetField):
            self.inner.set_input(box, estimate)


@contextmanager
def still(*fields: Field) -> Iterator[None]:
    """Show fields without the noise and the batch statistics of their training."""
    nets = [field for field in fields if isinstance(field, Held)]
    for net in nets:
        net.eval()
    try:
        yield
    finally:
        for net in nets:
            net.train()
