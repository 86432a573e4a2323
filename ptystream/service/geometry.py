"""What turns detector pixels into object pixels, and who said so.

The first of these that has a value gives it: configuration, start document, baseline,
the stream's header, ``geometry.default``.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeGuard, get_args

from ptystream.config import Config
from ptystream.errors import ConfigError
from ptystream.ingest.documents import (
    DocumentKey,
    Found,
    Table,
    Value,
    read_document,
)
from ptystream.settings import KnownGeometry
from ptystream.wire.messages import PLANCK_EV_M, Geometry, ScanStart

SETTINGS: Mapping[str, Value] = {
    "wavelength_m": "energy_ev",
    "distance_m": "distance_m",
    "detector_pixel_m": "detector_pixel_m",
}
"""A geometry's values, and the setting that gives each."""

OWN_KEYS: Table = {
    name: DocumentKey((f"ptystream.{name}",))
    for name in (*SETTINGS.values(), "angle_deg")
}
"""Where a start document may say it whatever the configuration, under our own key."""

Point = tuple[float, float]
_Found = dict[str, tuple[Any, str]]


@dataclass(frozen=True, slots=True)
class Documents:
    """What the run's documents say: its start, and data by name.

    ``configuration`` is that of the descriptors. ``told`` are values that whoever
    announced the run has found for us, each a ``value`` and its ``origin``.
    """

    start: Mapping[str, Any] = field(default_factory=dict)
    baseline: Mapping[str, Any] = field(default_factory=dict)
    configuration: Mapping[str, Any] = field(default_factory=dict)
    told: Mapping[str, Any] = field(default_factory=dict)


def documents_of(meta: Mapping[str, Any]) -> Documents:
    """Return the documents in a scan's metadata."""
    names = ("start_document", "baseline", "configuration", "told_geometry")
    parts = (meta.get(name) for name in names)
    return Documents(*(part if isinstance(part, Mapping) else {} for part in parts))


def read_documents(documents: Documents, config: Config) -> dict[Value, Found]:
    """Return all that the configured tables find; the start document wins.

    Raises:
        ConfigError: a value can't be read.
    """
    g = config.geometry
    return {
        **read_document(documents.configuration, g.baseline, "descriptor"),
        **read_document(documents.baseline, g.baseline, "baseline"),
        **read_document(documents.start, OWN_KEYS, "start document"),
        **read_document(documents.start, g.start_document, "start document"),
        **_told(documents),
    }


def resolve_geometry(
    start: ScanStart, config: Config, documents: Documents | None = None
) -> Geometry:
    """Return a scan's geometry, each value's origin named.

    ``documents`` are those in the scan's metadata unless given. The detector's pixel
    is that of the frames, after turns and binning.

    Raises:
        ConfigError: a value is nowhere, or a document has nonsense in its place.
    """
    g, meta = config.geometry, start.meta
    documents = documents_of(meta) if documents is None else documents
    found = {
        **_lengths(_settings(g.default, "default"), meta),
        **_header(start),
        **_lengths(_read(documents.configuration, g.baseline, "descriptor"), meta),
        **_lengths(_read(documents.baseline, g.baseline, "baseline"), meta),
        **_lengths(_read(documents.start, OWN_KEYS, "start document"), meta),
        **_lengths(_read(documents.start, g.start_document, "start document"), meta),
        **_lengths({n: (f.value, f.origin) for n, f in _told(documents).items()}, meta),
        **_lengths(_settings(g, "config"), meta),
    }
    missing = [name for name in SETTINGS if name not in found]
    if missing:
        raise ConfigError(_refusal(start, config, missing))
    return Geometry(
        **{name: found[name][0] for name in SETTINGS},
        origins={name: found[name][1] for name in SETTINGS},
    )


def _settings(told: KnownGeometry, origin: str) -> _Found:
    """Return what a section of the configuration gives."""
    values = {name: getattr(told, name) for name in SETTINGS.values()}
    return {name: (v, origin) for name, v in values.items() if v is not None}


def _read(document: Mapping[str, Any], table: Table, title: str) -> _Found:
    """Return what a document gives."""
    found = read_document(document, table, title)
    return {name: (f.value, f.origin) for name, f in found.items()}


def _told(documents: Documents) -> dict[Value, Found]:
    """Return the values that the run was announced with."""
    found: dict[Value, Found] = {}
    for name in get_args(Value):
        if name not in documents.told:
            continue
        part = documents.told[name]
        part = part if isinstance(part, Mapping) else {}
        value, origin = part.get("value"), part.get("origin", "announced")
        if not _fits(value, name):
            raise ConfigError(f"{origin} gives {name} {value!r}, expected a number")
        found[name] = Found(float(value), str(origin))
    return found


def _fits(value: Any, name: Value) -> TypeGuard[float]:
    """Tell a number that the value may have: more than nothing, but for an angle."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) and (value > 0 or name == "angle_deg")


def _header(start: ScanStart) -> _Found:
    """Return what the stream says: a whole geometry, or some values of one."""
    parts = start.meta.get("geometry")
    said: _Found = {}
    if isinstance(parts, Mapping):
        values = {n: parts.get(n) for n in SETTINGS}
        said = {n: (v, "stream") for n, v in values.items() if _is_length(n, v)}
        said = _lengths(said, start.meta)
    whole = start.geometry
    if whole is not None:  # its pixel is that of the frames already
        for name in SETTINGS:
            said[name] = getattr(whole, name), whole.origins.get(name, "stream")
    return said


def _is_length(name: str, value: Any) -> bool:
    """Tell a positive number, or a pixel's two, from what else a stream may say."""
    if name == "detector_pixel_m" and isinstance(value, list | tuple):
        return len(value) == 2 and all(_is_length("", side) for side in value)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and 0 < value < math.inf


def _lengths(values: _Found, meta: Mapping[str, Any]) -> _Found:
    """Return a geometry's values of what a source gives."""
    found = {name: values[name] for name in SETTINGS if name in values}
    if "energy_ev" in values:
        energy, origin = values["energy_ev"]
        found["wavelength_m"] = PLANCK_EV_M / energy, origin
    if "detector_pixel_m" in found:
        pitch, origin = found["detector_pixel_m"]
        found["detector_pixel_m"] = _pixel(pitch, meta), origin
    return found


def _pixel(pitch: float | Sequence[float], meta: Mapping[str, Any]) -> Point:
    """Return the pixel (y, x) of the frames, from the detector's own."""
    y, x = pitch if isinstance(pitch, Sequence) else (pitch, pitch)
    done = meta.get("preprocess")
    if not isinstance(done, Mapping):
        return y, x
    y, x = (x, y) if done.get("transposed") is True else (y, x)
    binning = done.get("binning")
    n = binning if isinstance(binning, int) and binning > 0 else 1
    return y * n, x * n


def _refusal(start: ScanStart, config: Config, missing: list[str]) -> str:
    """Say what is missing, where it was looked for, and what would give it."""
    g = config.geometry
    lines = []
    for name in missing:
        setting = SETTINGS[name]
        looked = [f"geometry.{setting}"]
        for table, title in (
            (g.start_document, "start document"),
            (g.baseline, "baseline"),
        ):
            keys = [key for n in (setting, name) if n in table for key in table[n].keys]
            looked += [f"{title} ({' or '.join(dict.fromkeys(keys))})"] if keys else []
        looked += ["the stream", f"geometry.default.{setting}"]
        lines.append(
            f"no {name}: looked in {', '.join(looked)}; set geometry.{setting}"
        )
    return f"scan {start.scan}: {'; '.join(lines)}"
