"""What a beamline would really know of its scan: nominal values, and no truth."""

from typing import Any

from ptystream.sim.optics_settings import AnyOptics, ElectronSettings
from ptystream.sim.settings import SimulateSettings


def metadata(settings: SimulateSettings, step_m: tuple[float, float]) -> dict[str, Any]:
    """Return the scan's metadata; the defocus in it is wrong as settings say."""
    scan = settings.scan
    return {
        "sample": settings.sample.name,
        "optics": _optics_meta(settings.optics),
        "scan": {
            "pattern": scan.pattern,
            "shape": list(scan.shape),
            "step_m": list(step_m),
            "snake": scan.snake,
        },
    }


def _optics_meta(optics: AnyOptics) -> dict[str, Any]:
    nominal_m = optics.defocus_m * (1 + optics.defocus_error)
    if isinstance(optics, ElectronSettings):
        return {
            "kind": "electron_aperture",
            "semi_angle_rad": optics.semi_angle_rad,
            "defocus_m": nominal_m,
            "aberrations": [list(row) for row in optics.aberrations],
        }
    return {
        "kind": "zone_plate",
        "diameter_m": optics.zone_plate_diameter_m,
        "outer_zone_m": optics.outer_zone_m,
        "stop_m": optics.stop_m,
        "defocus_m": nominal_m,
    }
