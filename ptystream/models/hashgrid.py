"""Multi-resolution hash grids over coordinates: paper A's (PtyINR) probe.

As the object as well: the paper's ablation, which its SIREN wins.
"""

from functools import lru_cache
from itertools import pairwise
from math import ceil
from typing import NamedTuple

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from ptystream.models.field import Box
from ptystream.models.scanned import Scanned
from ptystream.physics.constraints import normalise_by_maximum
from ptystream.physics.forward import ObjectKind, polar, transmission

PRIME = 2654435761
"""Multiplies the second index in the hash of Instant-NGP; the first is taken as is."""


class Level(NamedTuple):
    """One grid: nodes per axis, entries in the table, where they start in it."""

    nodes: int
    entries: int
    start: int


class Scheme(NamedTuple):
    """Where a pixel reads: x = (pixel − origin)/(size − 1) over the levels.

    ``signed`` maps to [−1, 1] and shifts each grid by half a cell, as the published
    code and the library under it; negative nodes wrap round as 32-bit integers do.
    """

    levels: tuple[Level, ...]
    size_px: int
    origin_px: tuple[int, int]
    signed: bool

    def over(self, square: Box) -> "Scheme":
        """Return the scheme of which the coordinates span this square."""
        return self._replace(size_px=square.h, origin_px=(square.y, square.x))


def make_levels(levels: int, base: int, growth: float, table: int) -> tuple[Level, ...]:
    """Return the grids, coarse to fine: dense while they fit the table, then hashed."""
    made, start = [], 0
    for level in range(levels):
        nodes = ceil(base * growth**level - 1) + 1
        entries = min(-(-(nodes**2) // 8) * 8, table)
        made.append(Level(nodes, entries, start))
        start += entries
    return tuple(made)


@lru_cache(maxsize=4)
def lookups(
    box: Box, scheme: Scheme, device: torch.device
) -> tuple[Int[Tensor, "nl 4"], Float[Tensor, "nl 4"]]:
    """Return table rows and bilinear weights of each pixel's corners on each level.

    The newest 4 boxes are kept (512 bytes a pixel at 16 levels); the oldest is dropped.
    """
    with torch.inference_mode(False):  # a cached inference tensor could not be trained
        y = torch.arange(box.y, box.y + box.h, dtype=torch.float64)
        x = torch.arange(box.x, box.x + box.w, dtype=torch.float64)
        origin = torch.tensor(scheme.origin_px, dtype=torch.float64)
        at = (torch.cartesian_prod(y, x) - origin) / max(scheme.size_px - 1, 1)
        if scheme.signed:
            at = 2 * at - 1
        found = [_level_lookup(at, level, scheme.signed) for level in scheme.levels]
        index = torch.stack([i for i, _ in found], 1).reshape(-1, 4)
        weight = torch.stack([w for _, w in found], 1).reshape(-1, 4)
        return index.to(device, torch.int32), weight.to(device, torch.float32)


def _level_lookup(
    at: Float[Tensor, "n 2"], level: Level, signed: bool
) -> tuple[Int[Tensor, "n 4"], Float[Tensor, "n 4"]]:
    """Return one level's rows and weights."""
    place = at * (level.nodes - 1) + (0.5 if signed else 0.0)
    cell = place.floor()
    near = (place - cell)[:, None]
    corner = torch.cartesian_prod(torch.arange(2), torch.arange(2))
    weight = torch.where(corner.bool(), near, 1 - near).prod(-1)
    node = (cell.to(torch.int64)[:, None] + corner) & 0xFFFFFFFF
    if level.nodes**2 <= level.entries:
        row = (node[..., 0] * level.nodes + node[..., 1]) & 0xFFFFFFFF
    else:
        row = node[..., 1] ^ ((node[..., 0] * PRIME) & 0xFFFFFFFF)
    return row % level.entries + level.start, weight


class HashNet(nn.Module):
    """Features looked up on every level, through a ReLU network without biases.

    Starts as tiny-cuda-nn: features uniform within ±10⁻⁴, Xavier-uniform weights.
    """

    def __init__(
        self, outputs: int, scheme: Scheme, *, features: int, width: int
    ) -> None:
        super().__init__()
        last = scheme.levels[-1]
        self.table = nn.Parameter(torch.empty(last.start + last.entries, features))
        sizes = (len(scheme.levels) * features, width, width, outputs)
        self.layers = nn.ModuleList(
            nn.Linear(i, o, bias=False) for i, o in pairwise(sizes)
        )
        nn.init.uniform_(self.table, -1e-4, 1e-4)
        for weight in self.layers.parameters():
            nn.init.xavier_uniform_(weight)

    def forward(self, box: Box, scheme: Scheme) -> Float[Tensor, "o h w"]:
        """Return the outputs on the box."""
        index, weight = lookups(box, scheme, self.table.device)
        values = functional.embedding_bag(
            index,
            self.table,
            mode="sum",
            per_sample_weights=weight.to(self.table.dtype),
        )
        hidden = values.reshape(box.h * box.w, -1)
        for layer in self.layers[:-1]:
            hidden = layer(hidden).relu()
        return self.layers[-1](hidden).T.reshape(-1, box.h, box.w)


class HashGrid(nn.Module):
    """A field from coordinates: a hash-grid net for amplitude, another for phase.

    ``size_px`` is the probe's width: pixels 0 … size − 1 are [0, 1], as the text says;
    None, for an object: what was covered before the first reading. ``signed`` gives the
    published code's [−1, 1]. Outputs are multiplied by
    ``output_scale`` (the code's; the text is silent, but at the start above and rates
    of 10⁻⁵ nothing would move without it). The amplitude may be negative, as in the
    text; ``absolute`` is the code's way. All modes are scaled together to a maximum
    amplitude of ``peak`` (the paper's normalisation); None leaves them as they come.
    ``flat`` is added to the amplitude: 1 starts near an empty object. Kinds other than
    complex have one net and amplitude 1.

    The paper's other start, uniform random in [0, 1] for amplitude and phase, is
    ``pretrain`` on such a probe.
    """

    def __init__(
        self,
        modes: int = 1,
        *,
        kind: ObjectKind = "complex",
        size_px: int | None = None,
        origin_px: tuple[int, int] = (0, 0),
        levels: int = 16,
        features: int = 2,
        table: int = 2**15,
        base: int = 16,
        growth: float = 1.5,
        width: int = 64,
        output_scale: float = 1e4,
        peak: float | None = 1.0,
        signed: bool = False,
        absolute: bool = False,
        flat: float = 0.0,
    ) -> None:
        super().__init__()
        self.kind: ObjectKind = kind
        grids = make_levels(levels, base, growth, table)
        self._scheme = Scheme(grids, size_px or 1, origin_px, signed)
        self._scanned = None if size_px else Scanned()
        nets = [
            HashNet(modes, self._scheme, features=features, width=width)
            for _ in range(2 if kind == "complex" else 1)
        ]
        self.phase = nets[0]
        self.amplitude = nets[1] if kind == "complex" else None
        self.output_scale, self.peak = output_scale, peak
        self.absolute, self.flat = absolute, flat

    def window(self, box: Box) -> Complex[Tensor, "s h w"]:
        """Return the modes on the box, which the maximum is taken over, too."""
        phase_rad = self._read(self.phase, box)
        if self.amplitude is None:
            return transmission(phase_rad, self.kind)
        amplitude = self._read(self.amplitude, box) + self.flat
        probe = polar(amplitude.abs() if self.absolute else amplitude, phase_rad)
        return probe if self.peak is None else normalise_by_maximum(probe, self.peak)

    def cover(self, box: Box) -> bool:
        """Take note of the scan's extent: outside it the hash repeats itself."""
        if self._scanned is not None:
            self._scanned.cover(box)
        return False

    def _read(self, net: nn.Module, box: Box) -> Float[Tensor, "s h w"]:
        """Evaluate a net on the box."""
        scheme = self._scheme
        if self._scanned is not None:
            scheme = scheme.over(self._scanned.square(box))
        return net(box, scheme) * self.output_scale
