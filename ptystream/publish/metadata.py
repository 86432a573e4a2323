"""A stranger's metadata made fit for a Bluesky start document."""

import math
import re
from collections.abc import Mapping
from typing import Any

MAX_DEPTH = 16
"""Deeper nesting is cut to its text: serializers recurse."""

_BAD_KEY = re.compile(r"[./]")


def clean(value: object, depth: int = 0) -> Any:
    """Return a JSON-safe copy: no dot or slash in a key at any level, no NaN."""
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, int):  # JSON encoders refuse more than 64 bits
        return int(value) if abs(value) < 2**63 else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if depth >= MAX_DEPTH:
        return str(value)[:200]
    if isinstance(value, Mapping):
        return _clean_mapping(value, depth)
    if isinstance(value, list | tuple | set | frozenset):
        return [clean(v, depth + 1) for v in value]
    if hasattr(value, "tolist"):  # numpy scalars and arrays
        return clean(value.tolist(), depth + 1)  # type: ignore[attr-defined]
    return str(value)


def _clean_mapping(mapping: Mapping[Any, object], depth: int) -> dict[str, Any]:
    """Clean keys and values; keys that become equal are told apart by a number."""
    out: dict[str, Any] = {}
    for key, value in mapping.items():
        name = base = _BAD_KEY.sub("_", str(key)) or "_"
        number = 2
        while name in out:
            name, number = f"{base}_{number}", number + 1
        out[name] = clean(value, depth + 1)
    return out


def scan_metadata(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a derived run copies from the scan's start, where it is well formed.

    The schema fixes the type of some keys: a value of another type is left out.
    """
    out: dict[str, Any] = {}
    for key, fits in _COPIED.items():
        value = meta.get(key)
        if isinstance(value, fits) and value:
            out[key] = clean(value)
    tags = meta.get("tiled_access_tags")
    if isinstance(tags, list | tuple) and all(isinstance(t, str) for t in tags):
        out["tiled_access_tags"] = list(tags)
    scan_id = meta.get("scan_id")
    if isinstance(scan_id, int) and not isinstance(scan_id, bool):
        out["original_scan_id"] = scan_id
    return out


_COPIED: Mapping[str, type | tuple[type, ...]] = {
    "data_session": str,
    "cycle": str,
    "proposal": (str, dict),
    "sample": (str, dict),
    "beamline_id": str,
}


def original_uid(scan: str, meta: Mapping[str, Any]) -> str:
    """Return the uid of the raw Bluesky run, or the stream's scan uid if unknown."""
    for key in ("bluesky_uid", "uid"):
        value = meta.get(key)
        if isinstance(value, str) and value:
            return value
    return scan
