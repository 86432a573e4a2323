"""Dense grids of features from coarse to fine, read by a small network."""

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn

from ptystream.models.canvas import Canvas, Tile
from ptystream.models.field import Box
from ptystream.physics.forward import ObjectKind, polar, transmission


class MultiRes(nn.Module):
    """Amplitude and phase from features on grids of 1, 2, 4 … pixels.

    Each level is interpolated linearly between its nodes: two small matrix products
    a level, so the window's cost does not depend on where it lies. The network is
    ``features -> width -> width -> 2 a slice``; amplitude is 1 + its first output,
    phase (rad) its second, both 0 where nothing has been learned. Kinds other than
    complex have one output a slice, which goes through ``transmission``.
    """

    def __init__(
        self,
        slices: int = 1,
        *,
        kind: ObjectKind = "complex",
        levels: int = 6,
        features: int = 4,
        width: int = 64,
        finest_px: int = 1,
        device: str = "cpu",
    ) -> None:
        super().__init__()
        self.slices = slices
        self.kind: ObjectKind = kind
        self._outputs = 2 if kind == "complex" else 1
        fill = torch.zeros(features, device=device)
        self.canvases = [
            Canvas(fill, cell_px=finest_px << level, scatter=1e-2)
            for level in range(levels)
        ]
        head = nn.Linear(width, self._outputs * slices)
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
        self.net = nn.Sequential(
            nn.Linear(levels * features, width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
            head,
        ).to(device)
        self.tiles: list[Tile] = []
        self._weights: dict[tuple[int, int, int], Tensor] = {}

    def cover(self, box: Box) -> bool:
        """Make room for the box on every level."""
        grew = [canvas.cover(canvas.cells(box)) for canvas in self.canvases]
        return any(grew)

    def window(self, box: Box) -> Complex[Tensor, "s h w"]:
        """Return the field on the box."""
        levels = [self._level(canvas, box) for canvas in self.canvases]
        if torch.is_grad_enabled():
            self.tiles = [tile for _, tile in levels if tile is not None]
        features = torch.cat([level for level, _ in levels])
        hidden = features.reshape(len(features), -1).T
        out = self.net(hidden).T.reshape(self.slices, -1, box.h, box.w)
        if self.kind != "complex":
            return transmission(out[:, 0], self.kind)
        return polar(1 + out[:, 0], out[:, 1])

    @torch.no_grad()
    def forget_updates(self) -> None:
        """Begin the optimiser's state anew on every level; what is learned stays."""
        for canvas in self.canvases:
            for state in (canvas.mean, canvas.square, canvas.age):
                state.zero_()

    def _level(
        self, canvas: Canvas, box: Box
    ) -> tuple[Float[Tensor, "f h w"], Tile | None]:
        """Return one level's features on the box, and the tile they come from."""
        cells = canvas.cells(box)
        tile = canvas.tile(cells) if torch.is_grad_enabled() else None
        rows, cols = canvas.slices(cells)
        nodes = tile.leaf if tile else canvas.values[:, rows, cols]
        if canvas.cell_px == 1:
            return nodes, tile
        down = self._between(canvas.cell_px, box.y, box.h)
        across = self._between(canvas.cell_px, box.x, box.w)
        return down @ nodes @ across.T, tile

    def _between(self, cell_px: int, start: int, count: int) -> Float[Tensor, "n m"]:
        """Return the linear weights of the nodes around each of ``count`` pixels."""
        offset = start % cell_px
        key = (cell_px, offset, count)
        if key not in self._weights:
            if len(self._weights) > 512:
                self._weights.clear()
            place = (torch.arange(count) + offset) / cell_px
            nodes = torch.arange(-(-(offset + count - 1) // cell_px) + 1)
            weights = (1 - (place[:, None] - nodes[None]).abs()).clamp_(min=0)
            self._weights[key] = weights.to(self.canvases[0].values.device)
        return self._weights[key]
