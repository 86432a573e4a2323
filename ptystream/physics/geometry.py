"""Lengths and wavelengths: plain floats in, plain floats out. Points are (y, x)."""

from math import sqrt

HC_EV_M = 1.239841984e-6
"""Planck's constant times the speed of light, in eV·m."""

ELECTRON_REST_EV = 510_998.95


def photon_wavelength_m(energy_ev: float) -> float:
    """Return the wavelength of X-rays of this energy; raise ValueError if not > 0."""
    return HC_EV_M / _positive("energy_ev", energy_ev)


def electron_wavelength_m(energy_ev: float) -> float:
    """Return the relativistic wavelength of electrons of this kinetic energy."""
    energy = _positive("energy_ev", energy_ev)
    return HC_EV_M / sqrt(energy * (energy + 2 * ELECTRON_REST_EV))


def object_pixel_m(
    wavelength_m: float,
    distance_m: float,
    detector_pixel_m: tuple[float, float],
    shape: tuple[int, int],
) -> tuple[float, float]:
    """Return the far-field object pixel for patterns of this shape."""
    y, x = (
        wavelength_m * distance_m / (n * p)
        for n, p in zip(shape, detector_pixel_m, strict=True)
    )
    return y, x


def object_pixel_from_angle_m(
    wavelength_m: float, pixel_rad: tuple[float, float], shape: tuple[int, int]
) -> tuple[float, float]:
    """Return the object pixel where the detector is calibrated in angle (electrons)."""
    y, x = (wavelength_m / (n * a) for n, a in zip(shape, pixel_rad, strict=True))
    return y, x


def fresnel_number(extent_m: float, wavelength_m: float, distance_m: float) -> float:
    """Return a²/(λz): the far field is where it is well below 1."""
    return extent_m**2 / (wavelength_m * distance_m)


def depth_of_field_m(resolution_m: float, wavelength_m: float) -> float:
    """Return λ/NA², with NA = λ/(2·resolution): samples thicker need slices.

    ``resolution_m`` is half a period, as small as the object pixel at best.
    """
    return 4 * resolution_m**2 / wavelength_m


def overlap(step_m: float, extent_m: float) -> float:
    """Return the linear overlap 1 - step/extent; negative if the step is the larger.

    The extent is the probe's diameter, or the window's side for the overlap of
    windows.
    """
    return 1 - step_m / _positive("extent_m", extent_m)


def zone_plate_aperture(outer_zone_m: float, wavelength_m: float) -> float:
    """Return the numerical aperture λ/(2Δr), dimensionless."""
    return wavelength_m / (2 * outer_zone_m)


def _positive(name: str, value: float) -> float:
    if not value > 0:
        raise ValueError(f"{name} = {value}: expected a number above 0")
    return value
