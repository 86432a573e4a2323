"""The plain field: one complex number a pixel."""

import torch
from jaxtyping import Complex
from torch import Tensor, nn

from ptystream.models.canvas import Canvas, Tile
from ptystream.models.field import Box


class Pixels(nn.Module):
    """Real and imaginary part of each pixel of each slice; empty space is 1 + 0i."""

    def __init__(
        self, slices: int = 1, *, empty: complex = 1 + 0j, device: str = "cpu"
    ) -> None:
        super().__init__()
        fill = torch.tensor([[empty.real, empty.imag]] * slices, device=device)
        self.canvas = Canvas(fill.flatten())
        self.slices = slices
        self.tiles: list[Tile] = []

    def cover(self, box: Box) -> bool:
        """Make room for the box."""
        return self.canvas.cover(box)

    def window(self, box: Box) -> Complex[Tensor, "s h w"]:
        """Return the pixels of the box."""
        if torch.is_grad_enabled():
            tile = self.canvas.tile(box)
            self.tiles = [tile]
            parts = tile.leaf
        else:
            rows, cols = self.canvas.slices(box)
            parts = self.canvas.values[:, rows, cols]
        pairs = parts.reshape(self.slices, 2, box.h, box.w)
        return torch.complex(pairs[:, 0], pairs[:, 1])

    @torch.no_grad()
    def write(self, box: Box, values: Complex[Tensor, "s h w"]) -> None:
        """Set the pixels of the box: a first guess, or a constraint's result."""
        self.cover(box)
        rows, cols = self.canvas.slices(box)
        pairs = torch.stack([values.real, values.imag], 1)
        self.canvas.values[:, rows, cols] = pairs.reshape(-1, box.h, box.w)
