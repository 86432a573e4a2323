"""Settings turned into specimen, probe, track and patterns: all but the sockets."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, UInt

from ptystream.sim.detector import expose
from ptystream.sim.diffraction import Diffraction
from ptystream.sim.pictures import picture
from ptystream.sim.probe import Modes, ZonePlate, at_specimen, pupil, pupil_modes
from ptystream.sim.sample import canvas_around, transmission
from ptystream.sim.scan import Track, fermat, jittered, raster, standing, step_of
from ptystream.sim.settings import SimulateSettings
from ptystream.sim.truth import Truth
from ptystream.wire.messages import PLANCK_EV_M, Geometry

_CHUNK = 32
"""Exposures computed at once; fixed, so that the noise doesn't depend on it."""

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
        points = self.track.during(self.settings.scan.blur_points)
        detector = self.settings.detector
        rng = np.random.default_rng([self.settings.seed, 3, scan_number])
        for first in range(0, len(points), _CHUNK):
            yield from expose(
                self.diffraction.patterns(points[first : first + _CHUNK]),
                rng,
                noise=detector.noise,
                readout_counts=detector.readout_counts,
                dtype=detector.dtype,
                saturation=detector.saturation,
            )

    def samples_m(self, scan_number: int) -> Float64[np.ndarray, "samples 2"]:
        """Return what the encoders read, (y, x), ``per_frame`` rows an exposure."""
        encoder = self.settings.encoder
        read = self.track.during(encoder.per_frame).reshape(-1, 2)
        rng = np.random.default_rng([self.settings.seed, 4, scan_number])
        return read + rng.normal(0, encoder.noise_m, read.shape)


def build(settings: SimulateSettings) -> Experiment:
    """Compute specimen, probe and track.

    Raises:
        ConfigError: the settings don't fit each other, or a picture can't be read.
    """
    geometry = _geometry(settings)
    size = settings.detector.size_px
    pixel_m = geometry.object_pixel_m((size, size))
    track, steps = _track(settings, pixel_m)
    canvas = canvas_around(track.mean_m, pixel_m, size, settings.sample.margin_px)
    sample = settings.sample
    obj = transmission(
        picture(sample.amplitude_picture, canvas.shape, settings.seed),
        picture(sample.phase_picture, canvas.shape, settings.seed + 1),
        amplitude=sample.amplitude,
        phase_rad=sample.phase_rad,
    )
    modes = _pupil_modes(settings, geometry, pixel_m)
    truth = Truth(
        object=obj[None].astype(np.complex64),
        probe=at_specimen(modes).astype(np.complex64),
        positions_m=track.mean_m,
        pixel_m=pixel_m,
        origin_m=canvas.origin_m,
    )
    diffraction = Diffraction(obj, canvas, modes)
    return Experiment(
        settings, geometry, track, truth, _meta(settings, steps), diffraction
    )


def _geometry(settings: SimulateSettings) -> Geometry:
    return Geometry(
        wavelength_m=PLANCK_EV_M / settings.optics.energy_ev,
        distance_m=settings.detector.distance_m,
        detector_pixel_m=(settings.detector.pixel_m, settings.detector.pixel_m),
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
    rng = np.random.default_rng([settings.seed, 2])
    return jittered(track, scan.jitter_m, rng), (y, x)


def _pupil_modes(
    settings: SimulateSettings, geometry: Geometry, pixel_m: tuple[float, float]
) -> Modes:
    optics = settings.optics
    wave = pupil(
        ZonePlate(optics.zone_plate_diameter_m, optics.outer_zone_m, optics.stop_m),
        defocus_m=optics.defocus_m,
        wavelength_m=geometry.wavelength_m,
        pixel_m=pixel_m,
        size=settings.detector.size_px,
    )
    return pupil_modes(wave, optics.mode_powers, optics.photons_per_frame)


def _meta(settings: SimulateSettings, step_m: tuple[float, float]) -> dict[str, Any]:
    """Return what a beamline would really know."""
    optics, scan = settings.optics, settings.scan
    return {
        "sample": settings.sample.name,
        "optics": {
            "kind": "zone_plate",
            "diameter_m": optics.zone_plate_diameter_m,
            "outer_zone_m": optics.outer_zone_m,
            "stop_m": optics.stop_m,
            "defocus_m": optics.defocus_m * (1 + optics.defocus_error),
        },
        "scan": {
            "pattern": scan.pattern,
            "shape": list(scan.shape),
            "step_m": list(step_m),
            "snake": scan.snake,
        },
    }
