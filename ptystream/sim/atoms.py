"""From atoms to the phase that each slice of a specimen gives to electrons.

The scattering factor of an atom is a sum of five Gaussians (Peng, Ren, Dudarev & Whelan
1996, International Tables C 4.3.2.2), so its potential is one too, in all three
directions, and vibration only widens it. An electron's phase is the potential along
its way times the interaction constant; by the definitions of both,

    φ(r) = γ λ Σ a 4π/B exp(-4π² r²/B),    B = b + 8π² u²,

which holds γ λ Σ a in all: 2.5 Å of scattering length for carbon, 10.6 Å for gold.
"""

from collections.abc import Mapping
from math import erf, pi

import numpy as np
from jaxtyping import Float64

from ptystream.sim.sample import Canvas

Atoms = Mapping[str, Float64[np.ndarray, "n 3"]]
"""Positions (z, y, x) in metres by element; z runs along the beam from the entrance."""

GAUSSIANS: Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "C": (
        (0.0893, 0.2563, 0.7570, 1.0487, 0.3575),
        (0.2465, 1.7100, 6.4094, 18.6113, 50.2523),
    ),
    "S": (
        (0.2497, 0.5628, 1.3899, 2.1865, 0.7715),
        (0.2681, 1.6711, 7.0267, 19.5377, 50.3888),
    ),
    "Se": (
        (0.4477, 1.1678, 1.5843, 2.8087, 1.1956),
        (0.2405, 1.5442, 6.3231, 19.4610, 52.0233),
    ),
    "Mo": (
        (0.6773, 1.4798, 3.1788, 3.0824, 1.8384),
        (0.2920, 2.0606, 8.1129, 30.5336, 100.0658),
    ),
    "W": (
        (0.9853, 2.1167, 3.3570, 3.7981, 2.2798),
        (0.2569, 1.6745, 7.0098, 26.9234, 81.3910),
    ),
    "Au": (
        (0.9674, 1.8916, 3.3993, 3.0524, 1.2607),
        (0.2358, 1.4712, 5.6758, 18.7119, 61.5286),
    ),
}
"""a in Å and b in Å² of f(s) = Σ a exp(-b s²), s half the spatial frequency."""

REACH_M = 6e-10
"""How far outside a canvas an atom still matters: exp(-4π² r²/B) is below 10⁻⁶."""

_CHUNK = 256
"""Neighbours in y taken at once: they touch few rows, and a product of matrices adds
them all."""
_FAR = 20
"""Where a Gaussian ends: exp(-20) is 2·10⁻⁹ of its peak."""
_erf = np.frompyfunc(erf, 1, 1)


def slice_phases(
    atoms: Atoms,
    canvas: Canvas,
    edges_m: Float64[np.ndarray, "s+1"],
    *,
    wavelength_m: float,
    mass_ratio: float,
    thermal_m: float,
) -> Float64[np.ndarray, "s h w"]:
    """Return the phase in radians that each slice between two edges gives.

    An atom near an edge is shared by both sides as its potential is.
    """
    out = np.zeros((len(edges_m) - 1, *canvas.shape))
    for element, position_m in atoms.items():
        sorted_m = position_m[np.argsort(position_m[:, 1])]
        for a, b in zip(*GAUSSIANS[element], strict=True):
            width = b * 1e-20 + 8 * pi**2 * thermal_m**2
            peak = mass_ratio * wavelength_m * a * 1e-10 * 4 * pi / width
            for first in range(0, len(sorted_m), _CHUNK):
                at = sorted_m[first : first + _CHUNK]
                _add(out, at, canvas, edges_m, width, peak)
    return out


def _add(
    out: Float64[np.ndarray, "s h w"],
    at_m: Float64[np.ndarray, "n 3"],
    canvas: Canvas,
    edges_m: Float64[np.ndarray, "s+1"],
    width: float,
    peak: float,
) -> None:
    """Add one Gaussian of atoms sorted by y; it is a product of one along each axis."""
    rows_m, columns_m = _line(canvas, 0), _line(canvas, 1)
    reach_m = (_FAR * width) ** 0.5 / (2 * pi)
    first, last = np.searchsorted(rows_m, [at_m[0, 1] - reach_m, at_m[-1, 1] + reach_m])
    y, x = (
        np.exp(-4 * pi**2 / width * (line[None] - at_m[:, axis, None]) ** 2)
        for axis, line in ((1, rows_m[first:last]), (2, columns_m))
    )
    share = _shares(at_m[:, 0], edges_m, width)
    for total, part in zip(out, share.T, strict=True):
        near = part > 1e-9
        if near.any():
            total[first:last] += (peak * part[near, None] * y[near]).T @ x[near]


def _line(canvas: Canvas, axis: int) -> Float64[np.ndarray, "n"]:
    """Return the places of the pixels along one axis."""
    return canvas.origin_m[axis] + canvas.pixel_m[axis] * np.arange(canvas.shape[axis])


def _shares(
    z_m: Float64[np.ndarray, "n"], edges_m: Float64[np.ndarray, "s+1"], width: float
) -> Float64[np.ndarray, "n s"]:
    """Return the part of each atom's Gaussian between each two edges."""
    away = 2 * pi / width**0.5 * (edges_m[None] - z_m[:, None])
    return np.diff(0.5 * np.asarray(_erf(away), np.float64), axis=1)
