"""The modes of whatever optics are set, on whatever grid is asked for."""

from ptystream.sim.coherence import source_modes
from ptystream.sim.electrons import electron_pupil
from ptystream.sim.optics_settings import (
    AnyOptics,
    ElectronSettings,
    ZonePlateSettings,
)
from ptystream.sim.probe import Modes, ZonePlate, pupil, pupil_modes


def illumination(
    optics: AnyOptics,
    *,
    quanta: float,
    pixel_m: tuple[float, float],
    size: int,
    before_m: float = 0.0,
) -> Modes:
    """Return the pupil's modes, ``quanta`` photons or electrons together.

    ``pixel_m`` and ``size`` are those of the window in the specimen's plane;
    ``before_m`` is how far before (upstream of) the defocus's plane it lies.

    Raises:
        ConfigError: the optics don't fit the window.
    """
    if isinstance(optics, ElectronSettings):
        return _electrons(optics, quanta, pixel_m, size, before_m)
    return _zone_plate(optics, quanta, pixel_m, size, before_m)


def _zone_plate(
    optics: ZonePlateSettings,
    quanta: float,
    pixel_m: tuple[float, float],
    size: int,
    before_m: float,
) -> Modes:
    wave = pupil(
        ZonePlate(optics.zone_plate_diameter_m, optics.outer_zone_m, optics.stop_m),
        defocus_m=optics.defocus_m - before_m,
        wavelength_m=optics.wavelength_m,
        pixel_m=pixel_m,
        size=size,
    )
    return pupil_modes(wave, optics.mode_powers, quanta)


def _electrons(
    optics: ElectronSettings,
    quanta: float,
    pixel_m: tuple[float, float],
    size: int,
    before_m: float,
) -> Modes:
    wave = electron_pupil(
        semi_angle_rad=optics.semi_angle_rad,
        terms=((1, 0, optics.defocus_m - before_m, 0.0), *optics.aberrations),
        wavelength_m=optics.wavelength_m,
        pixel_m=pixel_m,
        size=size,
    )
    modes = source_modes(
        wave,
        source_m=optics.source_m,
        focal_spread_m=optics.focal_spread_m,
        modes=optics.modes,
        wavelength_m=optics.wavelength_m,
        pixel_m=pixel_m,
    )
    return modes * quanta**0.5
