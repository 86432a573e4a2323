"""The simulator's own forward model, float64 numpy: what the detector would see."""

import numpy as np
from jaxtyping import Complex128, Float64

from ptystream.errors import ConfigError
from ptystream.sim.probe import Modes, at_specimen
from ptystream.sim.sample import Canvas


class Diffraction:
    """Exposures of one object under one probe.

    A position between pixels moves the *pupil's phase*, so the probe moves exactly
    and the object is used as it stands in the truth file, never interpolated.

    Args:
        slices: what the waves go through, the first one first.
        canvas: where the slices' pixels lie.
        pupil_modes: the probe on the slices' grid, zero frequency in the centre.
        between: what takes a wave to the next slice: ``free_space``.
        reading: what the detector takes of the far field: ``reader``; None: all.
    """

    def __init__(
        self,
        slices: Complex128[np.ndarray, "s h w"],
        canvas: Canvas,
        pupil_modes: Modes,
        *,
        between: Complex128[np.ndarray, "n n"] | None = None,
        reading: Float64[np.ndarray, "k n"] | None = None,
    ) -> None:
        self._slices = slices
        self._canvas = canvas
        self._modes = pupil_modes
        self._between = between
        self._reading = reading
        size = pupil_modes.shape[-1]
        self._half = size // 2
        self._frequency = (np.arange(size) - self._half) / size

    def patterns(
        self, points_m: Float64[np.ndarray, "n p 2"]
    ) -> Float64[np.ndarray, "n k k"]:
        """Return expected photons, zero frequency centred, averaged over p points.

        Raises:
            ConfigError: an illuminated window leaves the canvas.
        """
        points = self._canvas.to_pixels(points_m)
        return np.stack(
            [np.mean([self._pattern(*at) for at in path], axis=0) for path in points]
        )

    def exit_waves(self, y: float, x: float) -> Complex128[np.ndarray, "m n n"]:
        """Return what leaves the last slice, the probe being at this object pixel."""
        corner = np.array([y, x]) - self._half
        whole = np.floor(corner + 0.5).astype(int)
        first, *others = self._window(int(whole[0]), int(whole[1]))
        waves = self._probe(corner - whole) * first
        for transmission in others:
            if self._between is not None:
                waves = np.fft.ifft2(np.fft.fft2(waves) * self._between)
            waves = waves * transmission
        return waves

    def _pattern(self, y: float, x: float) -> Float64[np.ndarray, "k k"]:
        # Where zero lies on the way in only turns phases: intensities don't see it.
        waves = np.fft.fft2(self.exit_waves(y, x), norm="ortho")
        intensity = np.square(waves.real) + np.square(waves.imag)
        seen = np.fft.fftshift(intensity.sum(axis=0))
        if self._reading is None:
            return seen
        return self._reading @ seen @ self._reading.T

    def _window(self, top: int, left: int) -> Complex128[np.ndarray, "s k k"]:
        size = self._modes.shape[-1]
        h, w = self._slices.shape[1:]
        if not (0 <= top <= h - size and 0 <= left <= w - size):
            raise ConfigError(
                f"window at pixel ({top}, {left}) leaves the canvas of {h}x{w} pixels"
            )
        return self._slices[:, top : top + size, left : left + size]

    def _probe(self, shift_px: Float64[np.ndarray, "2"]) -> Modes:
        """Return the modes in the specimen's plane, moved by up to half a pixel."""
        ramp_y, ramp_x = (
            np.exp(-2j * np.pi * self._frequency * d) for d in shift_px.tolist()
        )
        moved = self._modes * ramp_y[:, None] * ramp_x[None]
        return at_specimen(moved)


def free_space(
    size: int,
    pixel_m: tuple[float, float],
    *,
    wavelength_m: float,
    distance_m: float,
    band: float = 1.0,
) -> Complex128[np.ndarray, "n n"]:
    """Return what free space does to each frequency, zero frequency first.

    exp(2πi z √(λ⁻² - f²)) without its exp(2πi z/λ); zero beyond the ``band``, a share
    of Nyquist's frequency.
    """
    y, x = (np.fft.fftfreq(size, p) for p in pixel_m)
    squared = y[:, None] ** 2 + x[None] ** 2
    along = np.sqrt(np.maximum(0, wavelength_m**-2 - squared))
    turns = -distance_m * squared / (along + 1 / wavelength_m)
    within = np.abs(np.fft.fftfreq(size)) <= band / 2
    kept = within[:, None] & within[None] & (along > 0)
    return np.where(kept, np.exp(2j * np.pi * turns), 0)


def reader(size: int, *, finer: int, wider: int) -> Float64[np.ndarray, "k n"] | None:
    """Return the rows that take one axis of a far field to ``size`` detector pixels.

    The window is ``wider`` than the pattern's own and its pixels ``finer``: the far
    field then has so many points to a pixel, which takes their light, and goes
    further than the detector. None if neither.
    """
    if finer == wider == 1:
        return None
    rows = np.zeros((size, size * finer * wider))
    centres = (np.arange(size) - size // 2) * wider + rows.shape[1] // 2
    reach = wider // 2
    for offset in range(-reach, reach + 1):
        # With an even number a pixel's ends lie on points, which neighbours share.
        shared = 0.5 if wider % 2 == 0 and abs(offset) == reach else 1.0
        at = centres + offset
        inside = (at >= 0) & (at < rows.shape[1])
        rows[np.flatnonzero(inside), at[inside]] = shared
    return rows
