"""Sinusoidal networks over coordinates: paper A's (PtyINR) object."""

from functools import lru_cache
from typing import Literal

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn
from torch.nn import functional

from ptystream.models.field import Box
from ptystream.models.scanned import Scanned
from ptystream.physics.forward import ObjectKind, polar, transmission

Coordinates = Literal["pixels", "unit", "signed"]
"""In units of a given length; [0, 1] over the scan, as the papers' text; [-1, 1]."""


@lru_cache(maxsize=16)
def coordinates(
    box: Box, origin_px: tuple[float, float], scale_px: float, device: torch.device
) -> Float[Tensor, "n 2"]:
    """Return (pixel − origin)/scale of each pixel of the box, row by row, float32.

    The newest 16 boxes are kept (8 bytes a pixel each); the oldest is dropped.
    """
    with torch.inference_mode(False):  # a cached inference tensor could not be trained
        y = torch.arange(box.y, box.y + box.h, dtype=torch.float64) - origin_px[0]
        x = torch.arange(box.x, box.x + box.w, dtype=torch.float64) - origin_px[1]
        grid = torch.cartesian_prod(y / scale_px, x / scale_px)
        return grid.to(device, torch.float32)


class Sine(nn.Module):
    """sin(ωWx + b), as paper A's text; ``scaled_bias``: sin(ω(Wx + b)), as its code."""

    def __init__(
        self, inputs: int, outputs: int, omega: float, *, first: bool, scaled_bias: bool
    ) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
        self.omega, self.scaled_bias = omega, scaled_bias
        nn.init.uniform_(self.linear.weight, *_bounds(inputs, omega, first=first))

    def forward(self, x: Float[Tensor, "n i"]) -> Float[Tensor, "n o"]:
        """Return the layer's output."""
        if self.scaled_bias:
            return torch.sin(self.omega * self.linear(x))
        weight = self.omega * self.linear.weight
        return torch.sin(functional.linear(x, weight, self.linear.bias))


def _bounds(inputs: int, omega: float, *, first: bool) -> tuple[float, float]:
    """Return the range of a sine layer's first weights (Sitzmann et al.)."""
    bound = 1 / inputs if first else (6 / inputs) ** 0.5 / omega
    return -bound, bound


def sine_net(
    outputs: int,
    *,
    width: int,
    hidden: int,
    omega_first: float,
    omega_hidden: float,
    scaled_bias: bool,
) -> nn.Sequential:
    """Return a first sine layer, ``hidden`` more, and a linear head, from 2 inputs."""
    layers: list[nn.Module] = [
        Sine(2, width, omega_first, first=True, scaled_bias=scaled_bias)
    ]
    layers += [
        Sine(width, width, omega_hidden, first=False, scaled_bias=scaled_bias)
        for _ in range(hidden)
    ]
    head = nn.Linear(width, outputs)
    nn.init.uniform_(head.weight, *_bounds(width, omega_hidden, first=False))
    return nn.Sequential(*layers, head)


class Siren(nn.Module):
    """An object from coordinates: a net for the amplitude, another for the phase.

    The nets are smooth functions of the plane, so there is no canvas to grow. They see
    (pixel − ``origin_px``)/``scale_px``, or with ``coordinates`` the text's [0, 1] or
    the code's [−1, 1] over the scan, as far as it is known when the field is first
    read. Finer detail needs a larger ``omega_first`` or a smaller ``scale_px``: their
    ratio decides (30 over 241 px in the paper's simulation).

    The amplitude is what the net gives, as in the text, so it may be negative;
    ``absolute`` is the code's way. ``flat`` is added to it: 0 is the paper's start, 1
    starts near an empty object. Kinds other than complex have one net and amplitude 1.
    """

    def __init__(
        self,
        slices: int = 1,
        *,
        kind: ObjectKind = "complex",
        width: int = 512,
        hidden: int = 3,
        omega_first: float = 30.0,
        omega_hidden: float = 30.0,
        coordinates: Coordinates = "pixels",
        scale_px: float = 256.0,
        origin_px: tuple[float, float] = (0.0, 0.0),
        scaled_bias: bool = False,
        absolute: bool = False,
        flat: float = 0.0,
    ) -> None:
        super().__init__()
        self.kind: ObjectKind = kind
        self.scale_px, self.origin_px = scale_px, origin_px
        self._coordinates, self._scanned = coordinates, Scanned()
        self.absolute, self.flat = absolute, flat
        nets = [
            sine_net(
                slices,
                width=width,
                hidden=hidden,
                omega_first=omega_first,
                omega_hidden=omega_hidden,
                scaled_bias=scaled_bias,
            )
            for _ in range(2 if kind == "complex" else 1)
        ]
        self.phase = nets[0]
        self.amplitude = nets[1] if kind == "complex" else None

    def window(self, box: Box) -> Complex[Tensor, "s h w"]:
        """Return the object on the box; costs what its pixels cost."""
        phase = self._read(self.phase, box)
        if self.amplitude is None:
            return transmission(phase, self.kind)
        amplitude = self._read(self.amplitude, box) + self.flat
        return polar(amplitude.abs() if self.absolute else amplitude, phase)

    def cover(self, box: Box) -> bool:
        """Take note of the scan's extent: the plane itself has no edge."""
        self._scanned.cover(box)
        return False

    def _read(self, net: nn.Module, box: Box) -> Float[Tensor, "s h w"]:
        """Evaluate a net on the box."""
        weight = next(net.parameters())
        xy = coordinates(box, *self._frame(box), weight.device)
        return net(xy.to(weight.dtype)).T.reshape(-1, box.h, box.w)

    def _frame(self, box: Box) -> tuple[tuple[float, float], float]:
        """Return where the coordinates are 0, and how many pixels they take to 1."""
        if self._coordinates == "pixels":
            return self.origin_px, self.scale_px
        square = self._scanned.square(box)
        last = max(square.h - 1, 1)
        if self._coordinates == "unit":
            return (square.y, square.x), last
        return (square.y + last / 2, square.x + last / 2), last / 2
