"""What a DECTRIS detector says of itself before a series, as a scan's start.

Settings are those of SIMPLON's ``detector/config``; version 2 of the stream calls some
of them otherwise. A value that is missing or makes no sense counts as not said.
"""

import math
from collections.abc import Mapping
from typing import Any

from ptystream.wire.headers import MAX_INDEX
from ptystream.wire.messages import PLANCK_EV_M, Geometry, ScanStart

VERSION_2 = {
    "incident_energy": "photon_energy",
    "incident_wavelength": "wavelength",
    "pixel_size_x": "x_pixel_size",
    "pixel_size_y": "y_pixel_size",
    "image_size_x": "x_pixels_in_detector",
    "image_size_y": "y_pixels_in_detector",
    "number_of_images": "nimages",
    "detector_description": "description",
    "detector_serial_number": "detector_number",
}
"""Names of version 2, and what version 1 calls the same."""

DTYPES = {8: "|u1", 16: "<u2", 32: "<u4"}
_SATURATION = (
    "saturation_value",
    "countrate_correction_count_cutoff",
    "bit_depth_image",
)
_UIDS = ("run_uid", "uid", "scan")
_MAX_TEXT = 8 << 10  # a start and its meta go on as one message of at most 64 KiB
_MAX_DEPTH = 8
_MAX_ITEMS = 512


def scan_name(series: int, user: Any) -> str:
    """Return the name that the user's data gives the scan, or the series'."""
    named = user.get("ptystream_scan") if isinstance(user, Mapping) else None
    if isinstance(named, str) and 0 < len(named) <= 256:
        return named
    return f"series-{series}"


def start_of(
    scan: str, series: int, config: Mapping[str, Any], user: Any = None
) -> ScanStart:
    """Return the start of a series, of its configuration and its user's data."""
    return ScanStart(
        scan=scan,
        stream="det",
        shape=_shape(config),
        dtype=DTYPES.get(_number(config, "bit_depth_image") or 0),
        frames_expected=expected_images(config),
        geometry=_geometry(config),
        dwell_s=_positive(config, "frame_time"),
        meta=_meta(series, config, user),
    )


def expected_images(config: Mapping[str, Any]) -> int | None:
    """Return how many images were asked for; fewer may come."""
    images, triggers = _number(config, "nimages"), _number(config, "ntrigger")
    if config.get("trigger_mode") in ("exte", "inte"):  # an image for each trigger
        return triggers
    images = None if images is None else images * (triggers or 1)
    return images if images is None or images < MAX_INDEX else None


def _shape(config: Mapping[str, Any]) -> tuple[int, int] | None:
    height = _number(config, "y_pixels_in_detector")
    width = _number(config, "x_pixels_in_detector")
    return (height, width) if height and width else None


def _geometry(config: Mapping[str, Any]) -> Geometry | None:
    """Return the geometry if all of it was said."""
    values = _lengths(config)
    if len(values) < 3:
        return None
    return Geometry(**values, origins=dict.fromkeys(values, "stream"))


def _lengths(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was said of a geometry, in metres, by Geometry's names."""
    energy, wavelength = (_positive(config, n) for n in ("photon_energy", "wavelength"))
    pixel = _positive(config, "y_pixel_size"), _positive(config, "x_pixel_size")
    found = {
        "wavelength_m": wavelength / 1e10 if wavelength else None,
        "distance_m": _positive(config, "detector_distance"),
        "detector_pixel_m": None if None in pixel else pixel,
    }
    if energy:
        found["wavelength_m"] = found["wavelength_m"] or PLANCK_EV_M / energy
    return {name: value for name, value in found.items() if value is not None}


def _meta(series: int, config: Mapping[str, Any], user: Any) -> dict[str, Any]:
    texts = {name: config.get(name) for name in ("description", "detector_number")}
    meta: dict[str, Any] = {
        "series": series,
        **{k: v for k, v in texts.items() if isinstance(v, str) and len(v) < 256},
    }
    # What can't make a whole geometry may fill the gaps of another's.
    if lengths := _lengths(config):
        meta["geometry"] = {k: _plain(v) for k, v in lengths.items()}
    if saturation := _saturation(config):
        meta["saturation"] = saturation
    if isinstance(user, Mapping):
        meta |= {k: user[k] for k in _UIDS if _is_small(user.get(k))}
    if user is not None and user != "":
        small = _is_small(user)
        meta |= {"user_data": user} if small else {"user_data_left_out": True}
    return meta


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _saturation(config: Mapping[str, Any]) -> int | None:
    """Return the lowest count that can't be believed, as far as it is said."""
    for name in _SATURATION[:2]:
        if (value := _number(config, name)) and value < MAX_INDEX:
            return value
    bits = _number(config, _SATURATION[2])
    return (1 << bits) - 2 if bits in DTYPES else None


def _is_small(value: Any, depth: int = _MAX_DEPTH) -> bool:
    """Tell what a scan's meta can hold: JSON, neither deep nor long."""
    return value is not None and _size(value, depth) <= _MAX_TEXT


def _size(value: Any, depth: int) -> float:
    """Return about how many bytes a value takes; infinite for what isn't JSON."""
    if isinstance(value, str):
        return 4 + 4 * len(value)
    if isinstance(value, bool | None):
        return 1
    if isinstance(value, int):
        return 9 if abs(value) < 1 << 63 else math.inf
    if isinstance(value, float):
        return 9 if math.isfinite(value) else math.inf
    if depth == 0 or not isinstance(value, list | Mapping) or len(value) > _MAX_ITEMS:
        return math.inf
    items = list(value)
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in items):
            return math.inf
        items += list(value.values())
    return 5 + sum(_size(item, depth - 1) for item in items)


def _positive(config: Mapping[str, Any], name: str) -> float | None:
    value = config.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    value = float(value) if abs(value) < 1e300 else math.inf
    return value if math.isfinite(value) and value > 0 else None


def _number(config: Mapping[str, Any], name: str) -> int | None:
    """Return a count; None if there is none, or no sensible one."""
    value = _positive(config, name)
    return int(value) if value and value < 1 << 31 else None
