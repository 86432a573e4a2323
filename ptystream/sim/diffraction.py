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
    """

    def __init__(
        self, obj: Complex128[np.ndarray, "h w"], canvas: Canvas, pupil_modes: Modes
    ) -> None:
        self._object = obj
        self._canvas = canvas
        self._modes = pupil_modes
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

    def _pattern(self, y: float, x: float) -> Float64[np.ndarray, "k k"]:
        corner = np.array([y, x]) - self._half
        whole = np.floor(corner + 0.5).astype(int)
        window = self._window(int(whole[0]), int(whole[1]))
        exits = self._probe(corner - whole) * window
        # Where zero lies on the way in only turns phases: intensities don't see it.
        waves = np.fft.fft2(exits, norm="ortho")
        intensity = np.square(waves.real) + np.square(waves.imag)
        return np.fft.fftshift(intensity.sum(axis=0))

    def _window(self, top: int, left: int) -> Complex128[np.ndarray, "k k"]:
        size = self._modes.shape[-1]
        h, w = self._object.shape
        if not (0 <= top <= h - size and 0 <= left <= w - size):
            raise ConfigError(
                f"window at pixel ({top}, {left}) leaves the canvas of {h}x{w} pixels"
            )
        return self._object[top : top + size, left : left + size]

    def _probe(self, shift_px: Float64[np.ndarray, "2"]) -> Modes:
        """Return the modes in the specimen's plane, moved by up to half a pixel."""
        ramp_y, ramp_x = (
            np.exp(-2j * np.pi * self._frequency * d) for d in shift_px.tolist()
        )
        moved = self._modes * ramp_y[:, None] * ramp_x[None]
        return at_specimen(moved)
