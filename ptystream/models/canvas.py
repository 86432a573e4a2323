"""An unbounded canvas of real channels: it grows, and is learned in tiles."""

import torch
from jaxtyping import Float
from torch import Tensor

from ptystream.models.field import Box

GROWTH = 64
"""The canvas grows by so many cells at a time, so that a scan costs few copies."""


class Canvas:
    """Channels on a grid of cells ``cell_px`` wide, and an optimiser's state of each.

    ``values``, ``mean`` and ``square`` are ``[channels, H, W]``; ``age`` is ``[H, W]``,
    the number of updates that each cell has seen. New cells start at ``fill``.
    """

    def __init__(
        self,
        fill: Float[Tensor, " channels"],
        *,
        cell_px: int = 1,
        scatter: float = 0.0,
    ) -> None:
        self.cell_px = cell_px
        self.box = Box(0, 0, 0, 0)
        self._fill = fill
        self._scatter = scatter
        self.values = fill.new_zeros((len(fill), 0, 0))
        self.mean = self.values.clone()
        self.square = self.values.clone()
        self.age = fill.new_zeros((0, 0))

    def cells(self, box: Box) -> Box:
        """Return the cells whose nodes surround a box given in object pixels."""
        y, x = box.y // self.cell_px, box.x // self.cell_px
        if self.cell_px == 1:
            return box
        bottom = -(-(box.y + box.h - 1) // self.cell_px)
        right = -(-(box.x + box.w - 1) // self.cell_px)
        return Box(y, x, bottom - y + 1, right - x + 1)

    def cover(self, cells: Box) -> bool:
        """Grow until the cells are inside; what is learned stays where it is."""
        if self.box.h and self.box.holds(cells):
            return False
        wanted = cells if not self.box.h else self.box.union(cells)
        y, x = (v // GROWTH * GROWTH for v in (wanted.y, wanted.x))
        bottom = -(-(wanted.y + wanted.h) // GROWTH) * GROWTH
        right = -(-(wanted.x + wanted.w) // GROWTH) * GROWTH
        grown = Box(y, x, bottom - y, right - x)
        shape = (len(self._fill), grown.h, grown.w)
        fresh = self._fill[:, None, None].expand(shape).clone()
        if self._scatter:
            fresh += self._scatter * (2 * torch.rand_like(fresh) - 1)
        self.values = self._moved(self.values, fresh, grown)
        self.mean = self._moved(self.mean, torch.zeros_like(fresh), grown)
        self.square = self._moved(self.square, torch.zeros_like(fresh), grown)
        self.age = self._moved(self.age, torch.zeros_like(fresh[0]), grown)
        self.box = grown
        return True

    def _moved(self, old: Tensor, fresh: Tensor, grown: Box) -> Tensor:
        """Put the old cells into the fresh ones at the same physical place."""
        y, x = self.box.y - grown.y, self.box.x - grown.x
        fresh[..., y : y + self.box.h, x : x + self.box.w] = old
        return fresh

    def slices(self, cells: Box) -> tuple[slice, slice]:
        """Return the array slices of these cells, which must be covered."""
        y, x = cells.y - self.box.y, cells.x - self.box.x
        return slice(y, y + cells.h), slice(x, x + cells.w)

    def tile(self, cells: Box) -> "Tile":
        """Return the cells as a leaf that collects a gradient."""
        rows, cols = self.slices(cells)
        leaf = self.values[:, rows, cols].clone().requires_grad_()
        return Tile(self, rows, cols, leaf)


class Tile:
    """A part of a canvas under training."""

    def __init__(self, canvas: Canvas, rows: slice, cols: slice, leaf: Tensor) -> None:
        self.canvas, self.rows, self.cols, self.leaf = canvas, rows, cols, leaf
