"""How far each pixel's phase can be trusted: its standard error, and 0..1 of it.

A phase that N photons have passed is known to σ = 1/√(2N), where overlap suffices and
nothing but their noise is wrong. What else is wrong shows in exposures that were never
trained on: an error δO adds ½Σ|P δO|² to the misfit of their amplitudes, that noise
alone would leave at ½Σ|P|²/D, with D the dose. So σ² = κ / (2N), where κ is the misfit
of the held-out exposures around, beyond photon noise, over what is expected of D.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

LEAST = 0.05
"""κ is taken to be at least so much: a smooth field can beat its pixels' photons, but
chance makes κ negative."""
SHARED = 2.0
"""Each place leans on all held-out exposures as on so many of its own: what one tells
is as uncertain as it is large."""
DIM = 1e-3
"""Dose, in units of the brightest place's, below which nothing is known of a pixel."""
ALONE = 0.05
"""Share of its light that a witness may have had to itself."""


class Witnesses(NamedTuple):
    """Held-out exposures: how much worse than photon noise they are predicted.

    ``excess`` ``[n]`` in photons is Σ(a - A)² of amplitudes less what photon noise
    leaves of it, ``believed`` ``[n]`` the share of light that was looked at,
    ``corners`` ``[n, 2]`` where their patches lie in the picture, in whole pixels.
    """

    excess: Float[np.ndarray, " n"]
    believed: Float[np.ndarray, " n"]
    corners: Int[np.ndarray, "n 2"]


def phase_error_rad(
    dose: Float[np.ndarray, "h w"],
    transmission: Float[np.ndarray, "h w"],
    light: Float[np.ndarray, "k k"],
    seen: Witnesses,
) -> Float[np.ndarray, "h w"]:
    """Return the standard error σ of each pixel's phase; infinite where it is dark.

    That of the projected phase, all slices together, up to the offset and the ramp
    that no exposure tells. Counts that are not photons, or a wrong probe, make it too
    large. Pixels that saturate teach nothing: their light does not count.

    Args:
        dose: photons that fell on each pixel, over all exposures.
        transmission: |O|² there.
        light: photons of one exposure on each pixel of its patch.
        seen: held-out exposures; at least one.
    """
    floor = DIM * dose.max()
    lit = dose > floor
    inverse = np.divide(0.5, dose, where=lit, out=np.zeros_like(dose))
    seen = _heard(dose, light, seen)
    expected = np.array([(inverse[_at(c, light)] * light).sum() for c in seen.corners])
    excess = seen.excess / np.maximum(seen.believed, DIM)
    kappa = _spread(excess, expected, dose.shape, light / light.max(), seen.corners)
    variance = kappa * inverse / np.maximum(transmission, DIM)
    return np.where(lit, np.sqrt(variance), np.inf).astype(np.float32)


def confidence(
    sigma_rad: Float[np.ndarray, "h w"], half_rad: float
) -> Float[np.ndarray, "h w"]:
    """Return 1/(1 + (σ/half)²): 1 is certain, ½ at ``half_rad``, 0 in the dark."""
    return (1 / (1 + np.square(sigma_rad / half_rad))).astype(np.float32)


def _spread(
    excess: Float[np.ndarray, " n"],
    expected: Float[np.ndarray, " n"],
    shape: tuple[int, ...],
    weight: Float[np.ndarray, "k k"],
    corners: Int[np.ndarray, "n 2"],
) -> Float[np.ndarray, "h w"]:
    """Return κ everywhere: each exposure speaks where it was lit, all a little."""
    top = np.full(shape, SHARED * excess.mean(), np.float32)
    bottom = np.full(shape, SHARED * expected.mean(), np.float32)
    for over, under, corner in zip(excess, expected, corners, strict=True):
        at = _at(corner, weight)
        top[at] += over * weight
        bottom[at] += under * weight
    return np.maximum(top / np.maximum(bottom, 1e-30), LEAST)


def _heard(
    dose: Float[np.ndarray, "h w"], light: Float[np.ndarray, "k k"], seen: Witnesses
) -> Witnesses:
    """Return the witnesses that saw what others had lit; all where none did.

    At the rim of a sparse scan a held-out exposure is alone with some of its light:
    that it is badly predicted says nothing of places that were learned.
    """
    others = [dose[_at(c, light)] - light for c in seen.corners]
    alone = np.array([light[d < light].sum() for d in others]) / light.sum()
    heard = alone < ALONE
    return Witnesses(*(v[heard] for v in seen)) if heard.any() else seen


def _at(
    corner: Int[np.ndarray, " 2"], like: Float[np.ndarray, "k k"]
) -> tuple[slice, slice]:
    """Return the slices of the patch at a corner."""
    (y, x), (h, w) = corner.tolist(), like.shape
    return slice(y, y + h), slice(x, x + w)
