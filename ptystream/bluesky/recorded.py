"""What is recorded of the service once a run, as configuration: pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ptystream.bluesky.values import NAN

Status = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Recorded:
    """One configuration signal: its type and unit, and where a status has it.

    ``pick`` takes a status and the run's geometry, which is empty while no scan of the
    run is open.
    """

    kind: type
    pick: Callable[[Status, Mapping[str, Any]], Any]
    units: str | None = None


def _setting(name: str, kind: type = str) -> Recorded:
    return Recorded(kind, lambda status, _: status["settings"][name])


def _length(name: str, axis: int | None = None) -> Recorded:
    def pick(_: Status, geometry: Mapping[str, Any]) -> float:
        value = geometry.get(name, NAN)
        return value if axis is None or value is NAN else value[axis]

    return Recorded(float, pick, "m")


def _origins(_: Status, geometry: Mapping[str, Any]) -> str:
    origins = geometry.get("origins", {})
    return "; ".join(f"{name}: {origins[name]}" for name in sorted(origins))


RECORDED: Mapping[str, Recorded] = {
    "version": Recorded(str, lambda status, _: status["version"]),
    "instance": Recorded(str, lambda status, _: status["instance"]),
    "presets": Recorded(
        str, lambda status, _: ", ".join(status["settings"]["presets"])
    ),
    "object_field": _setting("object_field"),
    "object_slices": _setting("object_slices", int),
    "probe_field": _setting("probe_field"),
    "probe_modes": _setting("probe_modes", int),
    "model": _setting("model"),
    "loss": _setting("loss"),
    "batch": _setting("batch", int),
    "store": _setting("store", int),
    "held_out": _setting("held_out", float),
    "halves": _setting("halves", bool),
    "seed": _setting("seed", int),
    "wavelength_m": _length("wavelength_m"),
    "distance_m": _length("distance_m"),
    "detector_pixel_y_m": _length("detector_pixel_m", 0),
    "detector_pixel_x_m": _length("detector_pixel_m", 1),
    "origins": Recorded(str, _origins),
}


def geometry_of(status: Status, uid: str) -> Mapping[str, Any]:
    """Return the geometry of the run's open scan, of any if no uid is given."""
    if status.get("run") and (not uid or status.get("raw_uid") == uid):
        return status.get("geometry") or {}
    return {}
