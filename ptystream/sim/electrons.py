"""Electrons: their wavelength, and the wave that an aberrated lens makes of them."""

from collections.abc import Sequence
from math import sqrt

import numpy as np
from jaxtyping import Complex128

from ptystream.errors import ConfigError
from ptystream.sim.probe import disc, frequencies

PLANCK_JS = 6.62607015e-34
ELECTRON_KG = 9.1093837015e-31
ELECTRON_C = 1.602176634e-19
LIGHT_M_S = 299_792_458.0

Term = tuple[int, int, float, float]
"""n, m, C_nm in metres and its angle in radians, in Krivanek's notation."""


def wavelength_m(voltage_v: float) -> float:
    """Return the relativistic wavelength: 4.18 pm at 80 kV, 1.97 pm at 300 kV."""
    energy_j = ELECTRON_C * voltage_v
    squared = energy_j * (2 * ELECTRON_KG + energy_j / LIGHT_M_S**2)
    return PLANCK_JS / sqrt(squared)


def mass_ratio(voltage_v: float) -> float:
    """Return the electron's mass over its mass at rest."""
    return 1 + ELECTRON_C * voltage_v / (ELECTRON_KG * LIGHT_M_S**2)


def electron_pupil(
    *,
    semi_angle_rad: float,
    terms: Sequence[Term],
    wavelength_m: float,
    pixel_m: tuple[float, float],
    size: int,
) -> Complex128[np.ndarray, "k k"]:
    """Return an aperture's pupil over spatial frequency, unit power.

    The phase is -χ, χ = 2π/λ Σ C αⁿ⁺¹ cos m(φ - angle) / (n + 1); a defocus is the
    term (1, 0, C, 0), positive downstream of the crossover.

    Raises:
        ConfigError: the detector is too small for the aperture.
    """
    rim = semi_angle_rad / wavelength_m
    if rim > 1 / (2 * max(pixel_m)):
        widest = wavelength_m / (2 * max(pixel_m))
        raise ConfigError(
            f"semi_angle_rad {semi_angle_rad:g}: expected at most {widest:g}, the edge "
            f"of the detector"
        )
    y, x = (wavelength_m * f for f in frequencies(pixel_m, size))
    angle, azimuth = np.hypot(y, x), np.arctan2(y, x)
    chi = np.zeros_like(angle)
    for n, m, length_m, turn in terms:
        chi += length_m * angle ** (n + 1) * np.cos(m * (azimuth - turn)) / (n + 1)
    wave = disc(rim, pixel_m, size) * np.exp(-2j * np.pi / wavelength_m * chi)
    return wave / np.linalg.norm(wave)
