"""Settings turned into specimen, probe, track and patterns: all but the sockets."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, UInt

from ptystream.errors import ConfigError
from ptystream.sim.detector import expose
from ptystream.sim.diffraction import Diffraction, free_space, reader
from ptystream.sim.illumination import illumination
from ptystream.sim.metadata import metadata
from ptystream.sim.noise import Noise, noise_of
from ptystream.sim.probe import Modes, at_specimen
from ptystream.sim.sample import Canvas, canvas_around, canvas_of
from ptystream.sim.sample_settings import PictureSettings
from ptystream.sim.scan import (
    Track,
    fermat,
    jittered,
    raster,
    shaken,
    standing,
    step_of,
)
from ptystream.sim.settings import SimulateSettings
from ptystream.sim.specimen import BAND, Specimen, specimen
from ptystream.sim.truth import Truth
from ptystream.wire.messages import Geometry

_CHUNK = 32
"""Exposures computed at once; fixed, so that the noise doesn't depend on it."""

MAX_FRAMES_BYTES = 1 << 33
"""``simulate`` refuses to make more than this at once."""

_GEOMETRY = ("wavelength_m", "distance_m", "detector_pixel_m")


@dataclass(frozen=True, slots=True)
class Experiment:
    """One specimen, one probe, one track: what every scan of a session shares.

    ``meta`` is what a beamline would know of itself, nominal values only; ``truth``
    is for a file. The stage's errors repeat from scan to scan, noise does not.
    """

    settings: SimulateSettings
    geometry: Geometry
    track: Track
    truth: Truth
    meta: Mapping[str, Any]
    diffraction: Diffraction

    def frames(self, scan_number: int) -> Iterator[UInt[np.ndarray, "k k"]]:
        """Yield the counts of each exposure, in order."""
        detector = self.settings.detector
        rng = np.random.default_rng([self.settings.seed, 3, scan_number])
        noise = self._noise()
        for patterns in self.patterns():
            yield from expose(
                patterns,
                rng,
                noise=noise,
                readout_counts=detector.readout_counts,
                dtype=detector.dtype,
                saturation=detector.saturation,
            )

    def patterns(self) -> Iterator[Float64[np.ndarray, "n k k"]]:
        """Yield the exposures' expected photons or electrons, in order, by chunks."""
        points = self.track.during(self.settings.scan.blur_points)
        for first in range(0, len(points), _CHUNK):
            yield self.diffraction.patterns(points[first : first + _CHUNK])

    def _noise(self) -> Noise:
        detector = self.settings.detector
        return noise_of(
            detector.noise,
            alpha=detector.alpha,
            sigma=detector.sigma_counts,
            peak=lambda: max(float(patterns.max()) for patterns in self.patterns()),
        )

    def samples_m(self, scan_number: int) -> Float64[np.ndarray, "samples 2"]:
        """Return what the encoders read, (y, x), ``per_frame`` rows an exposure."""
        encoder = self.settings.encoder
        read = self.track.during(encoder.per_frame).reshape(-1, 2)
        rng = np.random.default_rng([self.settings.seed, 4, scan_number])
        return read + rng.normal(0, encoder.noise_m, read.shape)

    def positions_m(self, scan_number: int) -> Float64[np.ndarray, "n 2"]:
        """Return the mean (y, x) of what the encoders read in each exposure."""
        per_frame = self.settings.encoder.per_frame
        return self.samples_m(scan_number).reshape(-1, per_frame, 2).mean(axis=1)


@dataclass(frozen=True, slots=True)
class Simulated:
    """A scan as arrays: what a beamline would have measured, and the truth.

    ``frames`` have their zero frequency in the centre; ``positions_m`` (y, x) are the
    means of what the encoders read.
    """

    frames: UInt[np.ndarray, "n k k"]
    positions_m: Float64[np.ndarray, "n 2"]
    geometry: Geometry
    truth: Truth


def simulate(settings: SimulateSettings) -> Simulated:
    """Simulate one scan, without a socket.

    Raises:
        ConfigError: as ``build``, or the frames take more than MAX_FRAMES_BYTES.
    """
    experiment = build(settings)
    detector, exposures = settings.detector, len(experiment.track.line)
    shape = (exposures, detector.size_px, detector.size_px)
    need = np.prod(shape, dtype=float) * np.dtype(detector.dtype).itemsize
    if need > MAX_FRAMES_BYTES:
        raise ConfigError(
            f"{exposures} frames of {need / exposures:.0f} bytes: expected at most "
            f"{MAX_FRAMES_BYTES} bytes in all"
        )
    frames = np.empty(shape, detector.dtype)
    for index, frame in enumerate(experiment.frames(0)):
        frames[index] = frame
    return Simulated(
        frames, experiment.positions_m(0), experiment.geometry, experiment.truth
    )


def build(settings: SimulateSettings) -> Experiment:
    """Compute specimen, probe and track.

    Raises:
        ConfigError: the settings don't fit each other, or a picture can't be read.
    """
    geometry = _geometry(settings)
    size = settings.detector.size_px
    pixel_m = geometry.object_pixel_m((size, size))
    track, steps = _track(settings, pixel_m)
    canvas = _canvas(settings, track, pixel_m)
    made = specimen(settings.sample, settings.optics, canvas, seed=settings.seed)
    quanta = settings.optics.per_frame(steps)
    modes = illumination(settings.optics, quanta=quanta, pixel_m=pixel_m, size=size)
    truth = Truth(
        object=made.truth,
        probe=at_specimen(modes).astype(np.complex64),
        positions_m=track.mean_m,
        pixel_m=pixel_m,
        origin_m=canvas.origin_m,
        slice_m=made.truth_spacing_m,
    )
    diffraction = _diffraction(settings, made, quanta, modes)
    return Experiment(
        settings, geometry, track, truth, metadata(settings, steps), diffraction
    )


def _geometry(settings: SimulateSettings) -> Geometry:
    detector = settings.detector
    return Geometry(
        wavelength_m=settings.optics.wavelength_m,
        distance_m=detector.camera_length_m,
        detector_pixel_m=(detector.pixel_m, detector.pixel_m),
        origins=dict.fromkeys(_GEOMETRY, "stream"),
    )


def _track(
    settings: SimulateSettings, pixel_m: tuple[float, float]
) -> tuple[Track, tuple[float, float]]:
    """Return the track and the nominal step (y, x) in metres."""
    scan = settings.scan
    y, x = (
        scan.step_m or step_of(scan.overlap, settings.detector.size_px, p)
        for p in pixel_m
    )
    if scan.pattern == "fermat":
        track = fermat(scan.shape[0] * scan.shape[1], (y, x), scan.centre_m)
    else:
        track = raster(scan.shape, (y, x), scan.centre_m, snake=scan.snake)
    if scan.blur_points == 1:
        track = standing(track)
    if scan.shake_px:
        reach = (scan.shake_px * pixel_m[0], scan.shake_px * pixel_m[1])
        track = shaken(track, reach, np.random.default_rng([settings.seed, 6]))
    rng = np.random.default_rng([settings.seed, 2])
    return jittered(track, scan.jitter_m, rng), (y, x)


def _canvas(
    settings: SimulateSettings, track: Track, pixel_m: tuple[float, float]
) -> Canvas:
    sample, window = settings.sample, settings.detector.size_px
    if not isinstance(sample, PictureSettings):
        window *= sample.wider
    points = track.during(settings.scan.blur_points).reshape(-1, 2)
    if sample.canvas_px is not None:
        return canvas_of(sample.canvas_px, points, pixel_m, window)
    return canvas_around(points, pixel_m, window, sample.margin_px)


def _diffraction(
    settings: SimulateSettings, made: Specimen, quanta: float, modes: Modes
) -> Diffraction:
    """Return the forward model; ``modes`` are the truth's, on the solver's grid."""
    if made.finer == 1:
        return Diffraction(made.slices, made.canvas, modes)
    size = settings.detector.size_px
    window, pixel_m = size * made.finer * made.wider, made.canvas.pixel_m
    return Diffraction(
        made.slices,
        made.canvas,
        illumination(
            settings.optics,
            quanta=quanta,
            pixel_m=pixel_m,
            size=window,
            before_m=made.before_m,
        ),
        between=free_space(
            window,
            pixel_m,
            wavelength_m=settings.optics.wavelength_m,
            distance_m=made.spacing_m,
            band=BAND,
        ),
        reading=reader(size, finer=made.finer, wider=made.wider),
    )
