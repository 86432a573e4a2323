"""Noise on expected intensities: photons counted, or paper A's equations 6 to 8.

Paper A's intensities are numbers of any size; here their unit is a count, since a
detector sends whole ones. ``photons_per_frame`` sets their scale, and a standard
deviation of 100 needs no other; rounding adds 0.29 counts to it.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal

import numpy as np
from jaxtyping import Float64
from numpy.random import Generator

Intensity = Float64[np.ndarray, "n k k"]
Noise = Callable[[Intensity, Generator], Intensity]
"""Returns a noisy copy; never below zero."""
NoiseName = Literal["poisson", "none", "scaled_poisson", "gaussian", "mixed"]


def none(intensity: Intensity, _rng: Generator) -> Intensity:
    """Return the intensity."""
    return intensity


def poisson(intensity: Intensity, rng: Generator) -> Intensity:
    """Return photon counts."""
    return rng.poisson(intensity).astype(np.float64)


def scaled_poisson(
    intensity: Intensity, rng: Generator, *, alpha: float, peak: float
) -> Intensity:
    """Return eq. 6: the scan's brightest pixel, ``peak``, counts ``alpha`` photons."""
    if peak <= 0:
        return intensity
    return peak / alpha * rng.poisson(intensity / peak * alpha)


def gaussian(intensity: Intensity, rng: Generator, *, sigma: float) -> Intensity:
    """Return eq. 7, with what falls below zero put there."""
    return np.maximum(0, intensity + rng.normal(0, sigma, intensity.shape))


def mixed(
    intensity: Intensity, rng: Generator, *, alpha: float, peak: float, sigma: float
) -> Intensity:
    """Return eq. 8: both, the photons first."""
    counted = scaled_poisson(intensity, rng, alpha=alpha, peak=peak)
    return gaussian(counted, rng, sigma=sigma)


def noise_of(
    name: NoiseName, *, alpha: float, sigma: float, peak: Callable[[], float]
) -> Noise:
    """Return the named noise; ``peak`` is asked only where the noise depends on it."""
    if name == "scaled_poisson":
        return partial(scaled_poisson, alpha=alpha, peak=peak())
    if name == "mixed":
        return partial(mixed, alpha=alpha, peak=peak(), sigma=sigma)
    if name == "gaussian":
        return partial(gaussian, sigma=sigma)
    return poisson if name == "poisson" else none
