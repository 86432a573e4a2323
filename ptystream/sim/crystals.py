"""Where the atoms are: gold particles on carbon, layers of MoS2 and WSe2."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64
from numpy.random import Generator

from ptystream.sim.atoms import Atoms

Positions = Float64[np.ndarray, "n 3"]
"""(z, y, x) in metres, z along the beam."""

GOLD_M = 4.0782e-10
"""Edge of gold's face-centred cubic cell."""
CARBON_PER_M3 = 1e29
"""Atoms of amorphous carbon: 2.0 g/cm³."""
FACET_RATIO = 0.87
"""Surface energy of gold's {111} over that of {100}: a truncated octahedron."""


class Compound(NamedTuple):
    """A metal M and two X: the hexagonal cell's edge, and half the distance X to X."""

    metal: str
    chalcogen: str
    a_m: float
    half_m: float


COMPOUNDS = {
    "MoS2": Compound("Mo", "S", 3.160e-10, 1.56e-10),
    "WSe2": Compound("W", "Se", 3.282e-10, 1.67e-10),
}
"""The layers that can be asked for."""


class Area(NamedTuple):
    """What the specimen covers, (y, x) in metres."""

    low_m: tuple[float, float]
    high_m: tuple[float, float]

    @property
    def centre_m(self) -> Float64[np.ndarray, "2"]:
        """The middle."""
        return (np.array(self.low_m) + self.high_m) / 2

    def holds(self, points_m: Positions) -> Bool[np.ndarray, "n"]:
        """Tell which points lie inside, whatever their z."""
        inside = (points_m[:, 1:] >= self.low_m) & (points_m[:, 1:] <= self.high_m)
        return inside[:, 0] & inside[:, 1]


def layer(
    compound: Compound,
    area: Area,
    *,
    z_m: float,
    turn_rad: float,
    vacancies: float,
    rng: Generator,
) -> Atoms:
    """Return a monolayer whose metal lies at ``z_m``; its a axis is turned from x.

    ``vacancies`` is the share of chalcogen atoms left out, one by one.
    """
    cells = _cells(area, compound.a_m)
    along = compound.a_m * np.array([[0.0, 1.0], [np.sqrt(3) / 2, -0.5]])
    metal = _turned(cells @ along, turn_rad) + area.centre_m
    # The chalcogens sit over the middle of every second triangle of metals.
    hollow = _turned((along[0] * 2 + along[1])[None] / 3, turn_rad)
    above, below = (
        _raised(metal + hollow, z_m + side * compound.half_m) for side in (-1, 1)
    )
    both = np.concatenate([above, below])
    both = both[area.holds(both)]
    kept = rng.random(len(both)) >= vacancies
    raised = _raised(metal, z_m)
    return {
        compound.metal: raised[area.holds(raised)],
        compound.chalcogen: both[kept],
    }


def _cells(area: Area, cell_m: float) -> Float64[np.ndarray, "n 2"]:
    """Return the whole numbers of enough cells to cover the area, however turned."""
    # Rows are 0.866 cells apart, and each is sheared by half a cell against the last.
    reach = np.hypot(*(np.array(area.high_m) - area.low_m)) / 2
    count = int(np.ceil(1.5 * reach / (cell_m * np.sqrt(3) / 2))) + 2
    numbers = np.arange(-count, count + 1)
    return np.stack(np.meshgrid(numbers, numbers), axis=-1).reshape(-1, 2)


def _turned(
    points: Float64[np.ndarray, "n 2"], turn_rad: float
) -> Float64[np.ndarray, "n 2"]:
    """Turn (y, x) points from x towards y."""
    y, x = points.T
    cos, sin = np.cos(turn_rad), np.sin(turn_rad)
    return np.stack([y * cos + x * sin, x * cos - y * sin], axis=1)


def _raised(points: Float64[np.ndarray, "n 2"], z_m: float) -> Positions:
    return np.column_stack([np.full(len(points), z_m), points])


def together(*parts: Atoms) -> Atoms:
    """Return the atoms of all parts."""
    elements = dict.fromkeys(name for part in parts for name in part)
    return {
        name: np.concatenate([part[name] for part in parts if name in part])
        for name in elements
    }


def carbon_film(area: Area, *, top_m: float, bottom_m: float, rng: Generator) -> Atoms:
    """Return amorphous carbon between two depths.

    Space is cut into cells of an atom each, which lies anywhere in it: the density is
    even, and its diffraction shows no line.
    """
    size = np.array([bottom_m - top_m, *np.array(area.high_m) - np.array(area.low_m)])
    if size[0] <= 0:
        return {}
    cells = np.maximum(1, np.round(size * CARBON_PER_M3 ** (1 / 3))).astype(int)
    corner = np.indices(cells).reshape(3, -1).T
    inside = rng.uniform(0, 1, corner.shape)
    low = np.array([top_m, *area.low_m])
    return {"C": low + (corner + inside) / cells * size}


def gold_particle(
    diameter_m: float, height_m: float, centre_m: Positions, turn_rad: float
) -> Atoms:
    """Return a slab of a truncated octahedron of gold, seen along [110]."""
    crystal = _face_centred(diameter_m)
    r = diameter_m / 2
    far = np.abs(crystal).sum(axis=1) / np.sqrt(3)
    kept = (np.abs(crystal).max(axis=1) <= r) & (far <= FACET_RATIO * r)
    # The beam's axis z is [110]; x is [1-10] and y [001], before it is turned.
    axes = np.array([[1, 1, 0], [0, 0, np.sqrt(2)], [1, -1, 0]]) / np.sqrt(2)
    zyx = crystal[kept] @ axes.T
    zyx = zyx[np.abs(zyx[:, 0]) <= height_m / 2]
    zyx[:, 1:] = _turned(zyx[:, 1:], turn_rad)
    return {"Au": zyx + centre_m}


def _face_centred(diameter_m: float) -> Positions:
    count = int(np.ceil(diameter_m / 2 / GOLD_M)) + 1
    corner = np.indices([2 * count + 1] * 3).reshape(3, -1).T - count
    basis = np.array([[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0]]) / 2
    return GOLD_M * (corner[:, None] + basis[None]).reshape(-1, 3)
