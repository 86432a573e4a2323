"""What the derived run's documents hold: one table, for the code and for readers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ptystream.publish.extras import optional

SCHEMA_VERSION = 1
"""``ptystream_schema`` in the start, the descriptor and the stop."""

STREAM = "recon"
VERSION_KEY = "ptystream_schema"


@dataclass(frozen=True, slots=True)
class Key:
    """One key: ``dtype`` in event-model's words, ``numpy`` as in ``dtype_numpy``."""

    name: str
    dtype: str
    meaning: str
    numpy: str = ""
    shape: tuple[int, ...] = ()
    units: str | None = None

    def data_key(self) -> dict[str, Any]:
        """Return the key as a descriptor has it."""
        key = {
            "source": "ptystream",
            "dtype": self.dtype,
            "dtype_numpy": self.numpy,
            "shape": list(self.shape),
        }
        return key if self.units is None else {**key, "units": self.units}


def _whole(name: str, meaning: str, units: str | None = None) -> Key:
    return Key(name, "integer", meaning, "<i8", units=units)


def _number(name: str, meaning: str, units: str | None = None) -> Key:
    return Key(name, "number", meaning, "<f8", units=units)


START = (
    Key("uid", "string", "of this reconstruction"),
    Key("time", "number", "of its beginning", units="s"),
    Key("plan_name", "string", "`ptystream`"),
    Key("purpose", "string", "`live reconstruction`"),
    Key("original_run_uid", "string", "of the raw run; who starts analyses skips it"),
    Key("raw_uid", "string", "the same"),
    Key("scan_uid", "string", "of the scan, as its stream gave it"),
    Key(VERSION_KEY, "integer", "version of this table"),
    Key("analysis", "object", "software, version, configuration, geometry, seed"),
    Key("hints", "object", "dimensions"),
)
COPIED = (
    Key("original_scan_id", "integer", "`scan_id` of the raw run"),
    Key("data_session", "string", "copied"),
    Key("cycle", "string", "copied"),
    Key("proposal", "string or object", "copied"),
    Key("sample", "string or object", "copied"),
    Key("beamline_id", "string", "copied"),
    Key("tiled_access_tags", "array", "copied"),
)
"""In the start where the raw run's has them, well formed."""

CONFIGURATION = (
    Key("object_pixel", "array", "size of an object pixel (y, x)", "<f8", (2,), "m"),
    Key("probe_shape", "array", "modes, rows, columns", "<i8", (3,), "px"),
)
EVENT = (
    _whole("step", "engine steps so far"),
    _whole("exposures", "exposures seen so far"),
    _whole("rolled_back", "steps undone because they were not finite"),
    _number("loss", "training loss"),
    _number("held_out_error", "Σ(a − A)² / ΣA² over frames never trained on"),
    _number("flat_error", "the same for an empty object"),
    _number("noise_error", "what photon noise alone would leave"),
    _number("held_out_nll", "their Poisson deviance per pixel"),
    _number("covered", "share of the scanned area with enough dose"),
    _number("resolution_m", "half a period on which the halves of the data agree", "m"),
    Key("converged", "boolean", "whether frames of the same area help no more", "|b1"),
    Key("health", "string", "faults found in the data, and how surely", "<U200"),
    Key("probe_released", "boolean", "whether the probe is learned", "|b1"),
    _number("frames_expected", "frames that the scan announced"),
    _whole("frames_received", "frames that came from the detector"),
    _whole("frames_paired", "frames joined with their position"),
    _whole("frames_lost", "frames lost, for whatever reason"),
    Key("rung", "string", "`stxm` from few exposures, then `reconstruction`", "<U14"),
    _whole("object_slices", "slices of the object", "px"),
    _whole("object_rows", "its rows; it grows with the scan", "px"),
    _whole("object_columns", "its columns", "px"),
    _number("object_origin_y", "centre of its pixel [0, 0], down", "m"),
    _number("object_origin_x", "the same, to the right", "m"),
)
"""Scalars only: of short arrays Tiled's writer makes text (plugins 2.0.12).

Numbers that are not known (yet) are NaN, null in JSON; ``loads`` gives NaN again.
"""

STOP = (
    Key("exit_status", "string", "`success`, `abort` or `fail`"),
    Key("reason", "string", "how the scan ended, why refinement did, frames lost"),
    Key(VERSION_KEY, "integer", "version of this table"),
)

_DOCUMENTS: Mapping[str, tuple[Key, ...]] = {
    "start": START,
    "start, if known": COPIED,
    f"descriptor `{STREAM}`": (Key(VERSION_KEY, "integer", "version of this table"),),
    "its configuration": CONFIGURATION,
    "event": EVENT,
    "stop": STOP,
}


def loads(document: bytes) -> dict[str, Any]:
    """Decode a document of the bus: the deserializer for ``RemoteDispatcher``.

    As ``orjson.loads``, but a number that is not known is NaN, not None: of a column
    that begins with None, Tiled's writer makes text, and tables can't format it.
    """
    decoded = optional("orjson", "bluesky").loads(document)
    data = decoded.get("data") if isinstance(decoded, dict) else None
    if isinstance(data, dict):
        unknown = {key: float("nan") for key, value in data.items() if value is None}
        data.update(unknown)
    return decoded


def data_keys(keys: tuple[Key, ...]) -> dict[str, dict[str, Any]]:
    """Return a descriptor's data keys."""
    return {key.name: key.data_key() for key in keys}


def markdown() -> str:
    """Return the table for people: a row per key, no newline at the end."""
    lines = ["| document | key | type | units | |", "|---|---|---|---|---|"]
    for document, keys in _DOCUMENTS.items():
        for key in keys:
            shape = f" [{', '.join(map(str, key.shape))}]" if key.shape else ""
            kind = f"{key.dtype} `{key.numpy.lstrip('|')}`" if key.numpy else key.dtype
            cells = (document, f"`{key.name}`", kind + shape, key.units or "")
            lines.append(f"| {' | '.join((*cells, key.meaning))} |")
    return "\n".join(lines)
