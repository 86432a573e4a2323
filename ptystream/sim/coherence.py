"""A partially coherent probe as the few modes that carry most of its light."""

import numpy as np
from jaxtyping import Complex128

from ptystream.errors import ConfigError
from ptystream.sim.probe import Modes, Pupil, frequencies

_NODES = 7
"""Gauss-Hermite nodes along each axis of the source: right to the 13th power."""


def source_modes(
    wave: Pupil,
    *,
    source_m: float,
    focal_spread_m: float,
    modes: int,
    wavelength_m: float,
    pixel_m: tuple[float, float],
) -> Modes:
    """Return the strongest orthogonal modes in the pupil, unit power together.

    A source of Gaussian image (rms per axis) is the incoherent sum of shifted probes, a
    spread of energies that of refocused ones; an SVD gives their modes in order.

    Raises:
        ConfigError: a source so small or sharp has no such number of modes.
    """
    lit = np.abs(wave) > 0
    y, x = (f for f in frequencies(pixel_m, len(wave)))
    squared = (y**2 + x**2)[lit]
    y, x = (np.broadcast_to(f, wave.shape)[lit] for f in (y, x))
    probes = [
        np.sqrt(wy * wx * wf)
        * wave[lit]
        * np.exp(
            -2j * np.pi * (y * dy + x * dx) - 1j * np.pi * wavelength_m * df * squared
        )
        for dy, wy in _nodes(source_m)
        for dx, wx in _nodes(source_m)
        for df, wf in _nodes(focal_spread_m)
    ]
    if modes > len(probes):
        raise ConfigError(
            f"modes {modes}: expected one, or a source_m or focal_spread_m above 0"
        )
    return _spread(_strongest(np.array(probes), modes), lit)


def _nodes(rms: float) -> list[tuple[float, float]]:
    """Return places and weights that stand for a Gaussian of this rms."""
    if rms == 0:
        return [(0.0, 1.0)]
    places, weights = np.polynomial.hermite_e.hermegauss(_NODES)
    return list(zip(rms * places, weights / weights.sum(), strict=True))


def _strongest(
    probes: Complex128[np.ndarray, "q p"], modes: int
) -> Complex128[np.ndarray, "m p"]:
    _, strength, basis = np.linalg.svd(probes, full_matrices=False)
    power = strength[:modes] ** 2
    return basis[:modes] * np.sqrt(power / power.sum())[:, None]


def _spread(values: Complex128[np.ndarray, "m p"], lit: np.ndarray) -> Modes:
    out = np.zeros((len(values), *lit.shape), np.complex128)
    out[:, lit] = values
    return out
