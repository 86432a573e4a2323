"""The specimen: a complex object on a canvas that holds every illuminated window."""

from dataclasses import dataclass
from math import ceil, floor

import numpy as np
from jaxtyping import Complex128, Float64

from ptystream.errors import ConfigError

Points = Float64[np.ndarray, "n 2"]


@dataclass(frozen=True, slots=True)
class Canvas:
    """Object pixels in space; ``origin_m`` is the (y, x) of pixel [0, 0]'s centre."""

    shape: tuple[int, int]
    pixel_m: tuple[float, float]
    origin_m: tuple[float, float]

    def to_pixels(self, points_m: Float64[np.ndarray, "... 2"]) -> np.ndarray:
        """Turn (y, x) in metres into fractional object pixels."""
        return (points_m - np.array(self.origin_m)) / np.array(self.pixel_m)


def canvas_around(
    points_m: Points, pixel_m: tuple[float, float], window: int, margin_px: int
) -> Canvas:
    """Return the canvas for window x window exposures at these points.

    Raises:
        ConfigError: the scan asks for more than 2**28 object pixels (4 GB).
    """
    low, high = points_m.min(axis=0), points_m.max(axis=0)
    reach = window // 2 + margin_px
    first = [floor(float(a) / p) - reach for a, p in zip(low, pixel_m, strict=True)]
    last = [ceil(float(b) / p) + reach for b, p in zip(high, pixel_m, strict=True)]
    h, w = (b - a + 1 for a, b in zip(first, last, strict=True))
    _check_size((h, w))
    origin = (first[0] * pixel_m[0], first[1] * pixel_m[1])
    return Canvas((h, w), pixel_m, origin)


def canvas_of(
    shape: tuple[int, int],
    points_m: Points,
    pixel_m: tuple[float, float],
    window: int,
) -> Canvas:
    """Return a canvas of this shape with the scan in its middle.

    The first window lies on whole pixels: if all steps are whole, all windows do.

    Raises:
        ConfigError: the windows at these points don't fit, or it is too large.
    """
    _check_size(shape)
    low = points_m.min(axis=0)
    across = np.round((points_m.max(axis=0) - low) / pixel_m).astype(int) + window
    spare = np.array(shape) - across
    if spare.min() < 0:
        raise ConfigError(
            f"canvas_px {shape}: expected at least {tuple(across.tolist())}"
        )
    y, x = (low - (window // 2 + spare // 2) * np.array(pixel_m)).tolist()
    return Canvas(shape, pixel_m, (y, x))


def _check_size(shape: tuple[int, int]) -> None:
    h, w = shape
    if h * w > 2**28:
        raise ConfigError(f"canvas of {h}x{w} pixels: expected at most 2**28 in all")


def transmission(
    amplitude_picture: Float64[np.ndarray, "h w"],
    phase_picture: Float64[np.ndarray, "h w"],
    *,
    amplitude: tuple[float, float] = (0.6, 1.0),
    phase_rad: tuple[float, float] = (0.0, 1.0),
) -> Complex128[np.ndarray, "h w"]:
    """Map two pictures in [0, 1] onto a complex object in the ranges given."""
    modulus = amplitude[0] + (amplitude[1] - amplitude[0]) * amplitude_picture
    phase = phase_rad[0] + (phase_rad[1] - phase_rad[0]) * phase_picture
    return modulus * np.exp(1j * phase)
