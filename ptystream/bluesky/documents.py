"""What the service should know of a run, out of its Bluesky documents: pure."""

import json
from collections.abc import Mapping
from typing import Any

from ptystream.publish.metadata import clean

MAX_VALUE_BYTES = 4096
"""A larger value (the points of a scan, say) is left out, and named."""
MAX_BYTES = 24 * 1024
"""A document's share of a request, which holds 64 KiB."""

KEV = {"kev": 1e3, "ev": 1.0, "": 1.0}
"""eV in each unit that an energy's data key may name."""


def trimmed(document: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return a JSON-safe copy that fits a request, and the keys that were left out."""
    kept: dict[str, Any] = {}
    left_out: list[str] = []
    room = MAX_BYTES
    for key, value in clean(document).items():
        size = len(json.dumps(value)) + len(key)
        if size > min(MAX_VALUE_BYTES, room):
            left_out.append(key)
            continue
        kept[key], room = value, room - size
    return kept, left_out


def is_derived(start: Mapping[str, Any]) -> bool:
    """Tell a run that is made of another: to follow it would be a loop."""
    return "original_run_uid" in start


def frames_of(start: Mapping[str, Any]) -> int | None:
    """Return how many exposures a start document promises; None if it does not.

    Looks for a serialized ``scanspec`` (if the package is installed), then ``shape``,
    HXN's ``scan.scan_input`` and ``num_points``.
    """
    spec = start.get("scanspec")
    if isinstance(spec, Mapping) and (count := _of_scanspec(dict(spec))):
        return count
    scan = start.get("scan")
    scan = scan if isinstance(scan, Mapping) else {}
    for shape in (start.get("shape"), scan.get("shape")):
        if count := _product(shape):
            return count
    given = scan.get("scan_input")
    if isinstance(given, list | tuple) and len(given) >= 6:
        return _product([given[2], given[5]])
    return _product([start.get("num_points")])


def energy_ev(value: Any, units: str) -> float | None:
    """Return an energy in eV; a number without a unit above 500 is eV, else keV."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        return None
    scale = KEV.get(units.strip().lower())
    if scale is None:
        return None
    return value * (1e3 if not units.strip() and value < 500 else scale)


def _of_scanspec(spec: dict[str, Any]) -> int | None:
    """Return the number of points of a spec; None if it is none, or not installed."""
    try:
        from scanspec.specs import Spec
    except ImportError:
        return None
    try:
        return _product(list(Spec.deserialize(spec).shape()))
    except (TypeError, ValueError, AttributeError):
        return None


def _product(shape: Any) -> int | None:
    """Return the product of whole numbers above 0."""
    if not isinstance(shape, list | tuple) or not shape:
        return None
    count = 1
    for n in shape:
        if isinstance(n, bool) or not isinstance(n, int) or n <= 0:
            return None
        count *= n
    return count
