"""The illumination: a pupil, its modes, and both brought to the specimen's plane.

Everything here is float64 numpy and written apart from ``ptystream.physics``: a
mistake shared by simulator and solver would cancel and never be seen.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Complex128, Float64

from ptystream.errors import ConfigError

Pupil = Complex128[np.ndarray, "k k"]
Modes = Complex128[np.ndarray, "m k k"]

_ORDERS = (
    (0, 0),
    (0, 1),
    (1, 0),
    (0, 2),
    (1, 1),
    (2, 0),
    (0, 3),
    (1, 2),
    (2, 1),
    (3, 0),
)
"""Hermite-like modes, lowest first: the powers of (y, x) across the pupil."""

_FINE = 8
"""Sub-pixels a side that soften the pupil's rims."""


@dataclass(frozen=True, slots=True)
class ZonePlate:
    """Diameter, width of the outermost zone, and diameter of the central stop."""

    diameter_m: float
    outer_zone_m: float
    stop_m: float


def pupil(
    plate: ZonePlate,
    *,
    defocus_m: float,
    wavelength_m: float,
    pixel_m: tuple[float, float],
    size: int,
) -> Pupil:
    """Return the pupil over spatial frequency, zero in the centre, unit power.

    ``defocus_m`` is how far downstream of the focus the specimen stands, for waves
    that advance as exp(+ikz): the phase is -pi * wavelength * defocus * frequency².

    Raises:
        ConfigError: the detector is too small for the pupil.
    """
    rim = 1 / (2 * plate.outer_zone_m)
    if rim > 1 / (2 * max(pixel_m)):
        raise ConfigError(
            f"outermost zone of {plate.outer_zone_m:g} m: the detector takes no angle "
            f"so wide; expected at least the object pixel, {max(pixel_m):g} m"
        )
    stop = rim * plate.stop_m / plate.diameter_m
    open_share = disc(rim, pixel_m, size) - disc(stop, pixel_m, size)
    squared = np.hypot(*frequencies(pixel_m, size)) ** 2
    wave = open_share * np.exp(-1j * np.pi * wavelength_m * defocus_m * squared)
    return wave / np.linalg.norm(wave)


def frequencies(
    pixel_m: tuple[float, float], size: int, fine: int = 1
) -> tuple[Float64[np.ndarray, "n 1"], Float64[np.ndarray, "1 n"]]:
    """Return spatial frequencies (y, x) in 1/m, zero in the centre.

    ``fine`` gives so many points a side of every one of the ``size`` pixels.
    """
    inside = (np.arange(fine) + 0.5) / fine - 0.5
    steps = ((np.arange(size) - size // 2)[:, None] + inside).ravel() / size
    return steps[:, None] / pixel_m[0], steps[None] / pixel_m[1]


def disc(
    rim: float, pixel_m: tuple[float, float], size: int
) -> Float64[np.ndarray, "k k"]:
    """Return the share of each frequency's pixel inside the rim, in 1/m."""
    inside = np.hypot(*frequencies(pixel_m, size, _FINE)) <= rim
    return inside.reshape(size, _FINE, size, _FINE).mean(axis=(1, 3))


def pupil_modes(wave: Pupil, powers: tuple[float, ...], photons: float) -> Modes:
    """Return orthogonal modes in the pupil; together ``photons``, shared as ``powers``.

    Polynomials across the pupil are what a source of finite size gives, and keep
    each mode inside it: the modes are Hermite-like in the focus.

    Raises:
        ConfigError: more modes than there are polynomials up to third order.
    """
    if len(powers) > len(_ORDERS):
        raise ConfigError(f"{len(powers)} modes: expected at most {len(_ORDERS)}")
    size = wave.shape[0]
    across = (np.arange(size) - size // 2) / (size / 2)
    raw = [
        wave * across[:, None] ** y * across[None] ** x
        for y, x in _ORDERS[: len(powers)]
    ]
    basis, triangle = np.linalg.qr(np.reshape(raw, (len(powers), -1)).T)
    # QR fixes each mode up to a factor of modulus 1: undo it, so mode 0 is the pupil.
    basis = basis * np.exp(1j * np.angle(np.diag(triangle)))
    share = np.array(powers) / np.sum(powers)
    modes = basis.T * np.sqrt(share * photons)[:, None]
    return modes.reshape(len(powers), size, size)


def at_specimen(modes: Modes) -> Modes:
    """Transform pupil modes to the specimen's plane, centred on pixel [K/2, K/2]."""
    shifted = np.fft.ifftshift(modes, axes=(-2, -1))
    return np.fft.fftshift(np.fft.ifft2(shifted, norm="ortho"), axes=(-2, -1))
