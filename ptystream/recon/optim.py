"""Adam for canvases, which learns only the tile in use, and for networks."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor

from ptystream.models.canvas import Tile

BETA_MEAN, BETA_SQUARE, FLOOR = 0.9, 0.99, 1e-12


@dataclass(frozen=True, slots=True)
class TileAdam:
    """Adam for the cells of a canvas.

    Each cell has its own age, so a region reached late is corrected for its own start
    and a step costs what the tile costs, whatever the size of the canvas.

    ``settling``: a cell's rate falls as the root of its updates over this. ``floor``:
    cells whose slope is below this share of the steepest one's move less than the
    others: beyond the light they would else move as far. ``decay``: the slope that
    pulls a value of 1 towards 0, in units of the tile's root-mean-square slope.
    """

    rate: float
    settling: float = math.inf
    floor: float = 0.0
    decay: float = 0.0

    @torch.no_grad()
    def update(self, tile: Tile, fade: float, finite: Bool[Tensor, ""]) -> None:
        """Take one step on a tile; nothing changes where ``finite`` is false."""
        if tile.leaf.grad is None:
            return
        canvas, at = tile.canvas, (slice(None), tile.rows, tile.cols)
        mean, square = canvas.mean[at], canvas.square[at]
        age = canvas.age[tile.rows, tile.cols]
        gradient = tile.leaf.grad
        if self.decay:
            pull = self.decay * gradient.square().mean().sqrt()
            gradient = gradient + pull * tile.leaf.detach()
        gradient = torch.where(finite, gradient, 0)
        age += finite
        mean.lerp_(gradient, (1 - BETA_MEAN) * finite)
        square.lerp_(gradient.square(), (1 - BETA_SQUARE) * finite)
        slope = (square / (1 - BETA_SQUARE**age)).sqrt_()
        slope += self.floor * slope.max() + FLOOR
        step = mean / (1 - BETA_MEAN**age) / slope
        if math.isfinite(self.settling):
            step *= (1 + age / self.settling).rsqrt_()
        canvas.values[at].sub_(step.mul_(finite), alpha=self.rate * fade)


class Adam:
    """Adam over a network's parameters, with a step that the device can refuse.

    The real and imaginary part of a complex parameter are two parameters.
    """

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        self.parameters = list(parameters)
        self.mean = [torch.zeros_like(_real(p.detach())) for p in self.parameters]
        self.square = [torch.zeros_like(mean) for mean in self.mean]
        self.steps = 0

    @torch.no_grad()
    def update(self, rate: float, finite: Bool[Tensor, ""]) -> None:
        """Take one step; nothing changes where ``finite`` is false."""
        self.steps += 1
        fade_mean = 1 - BETA_MEAN**self.steps
        fade_square = 1 - BETA_SQUARE**self.steps
        for p, mean, square in zip(
            self.parameters, self.mean, self.square, strict=True
        ):
            if p.grad is None:
                continue
            gradient = torch.where(finite, _real(p.grad), 0)
            mean.lerp_(gradient, (1 - BETA_MEAN) * finite)
            square.lerp_(gradient.square(), (1 - BETA_SQUARE) * finite)
            step = mean / (square / fade_square).sqrt_().add_(FLOOR)
            _real(p).sub_(step.mul_(finite), alpha=rate / fade_mean)
            p.grad = None


def _real(values: Tensor) -> Tensor:
    """Return a view of pairs, if complex."""
    return torch.view_as_real(values) if values.is_complex() else values
