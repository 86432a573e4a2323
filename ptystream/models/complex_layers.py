"""Layers that take real or complex channels, acting on Re and Im apart where complex.

Convolutions need none: ``nn.Conv2d(dtype=torch.complex64)`` is one.
"""

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Inexact
from torch import Tensor, nn
from torch.nn import functional

Activation = Literal["relu", "modrelu", "phaserelu"]
"""ReLU of Re and Im apart; of the amplitude with a learned threshold; by the phase."""

Maps = Inexact[Tensor, "b c _ _"]


def apart(maps: Maps, layer: Callable[[Tensor], Tensor]) -> Maps:
    """Apply a real layer to Re and Im, each by itself; to a real tensor once."""
    if not maps.is_complex():
        return layer(maps)
    return torch.complex(layer(maps.real), layer(maps.imag))


class Relu(nn.Module):
    """ReLU, of Re and Im apart."""

    def forward(self, maps: Maps) -> Maps:
        """Return what is positive."""
        return apart(maps, functional.relu)


class MaxPool(nn.Module):
    """The largest of each 2 × 2, of Re and Im apart."""

    def forward(self, maps: Maps) -> Maps:
        """Return maps of half the size."""
        return apart(maps, lambda part: functional.max_pool2d(part, 2))


class ModRelu(nn.Module):
    """relu(|z| + b)·z/|z| with a learned b per channel: keeps the phase (Arjovsky)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, maps: Maps) -> Maps:
        """Return the maps with shorter or longer amplitudes."""
        size = maps.abs()
        least = torch.finfo(size.dtype).tiny
        return maps * ((size + self.bias).relu() / size.clamp_min(least))


class PhaseRelu(nn.Module):
    """|z| cos²(arg z) where Re z > 0, else 0: real, as in paper B's code; ReLU if real.

    It is relu(Re z)²/|z|, which needs no angle.
    """

    def forward(self, maps: Maps) -> Maps:
        """Return what points along the real axis."""
        if not maps.is_complex():
            return maps.relu()
        least = torch.finfo(maps.real.dtype).tiny
        kept = maps.real.relu().square() / maps.abs().clamp_min(least)
        return torch.complex(kept, torch.zeros_like(kept))


class BatchNorm(nn.Module):
    """Batch normalisation; where complex, one for Re and another for Im."""

    def __init__(self, channels: int, *, is_complex: bool) -> None:
        super().__init__()
        self.real = nn.BatchNorm2d(channels)
        self.imag = nn.BatchNorm2d(channels) if is_complex else None

    def forward(self, maps: Maps) -> Maps:
        """Return maps of mean 0 and variance 1 a channel (then scaled and shifted)."""
        if self.imag is None:
            return self.real(maps)
        return torch.complex(self.real(maps.real), self.imag(maps.imag))


def activation(name: str, channels: int) -> nn.Module:
    """Return the named activation for that many channels.

    Raises:
        ValueError: the name is unknown.
    """
    if name == "relu":
        return Relu()
    if name == "modrelu":
        return ModRelu(channels)
    if name == "phaserelu":
        return PhaseRelu()
    raise ValueError(f"activation {name!r}: expected relu, modrelu or phaserelu")
