"""Adam for canvases, which learns only the tile in use, and for networks."""

from collections.abc import Iterable

import torch
from jaxtyping import Bool
from torch import Tensor

from ptystream.models.canvas import Tile

BETA_MEAN, BETA_SQUARE, FLOOR = 0.9, 0.99, 1e-12


@torch.no_grad()
def update_tile(tile: Tile, rate: float, finite: Bool[Tensor, ""]) -> None:
    """Take one Adam step on a tile; nothing changes where ``finite`` is false.

    Each cell has its own age, so a region reached late is corrected for its own start
    and the step costs what the tile costs, whatever the size of the canvas.
    """
    if tile.leaf.grad is None:
        return
    canvas, at = tile.canvas, (slice(None), tile.rows, tile.cols)
    gradient = torch.where(finite, tile.leaf.grad, 0)
    mean, square = canvas.mean[at], canvas.square[at]
    age = canvas.age[tile.rows, tile.cols]
    age += finite
    mean.lerp_(gradient, (1 - BETA_MEAN) * finite)
    square.lerp_(gradient.square(), (1 - BETA_SQUARE) * finite)
    fade_mean = 1 - BETA_MEAN**age
    fade_square = 1 - BETA_SQUARE**age
    step = mean / fade_mean / (square / fade_square).sqrt_().add_(FLOOR)
    canvas.values[at].sub_(step.mul_(finite), alpha=rate)


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
