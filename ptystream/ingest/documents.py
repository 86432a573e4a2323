"""Values of a scan in the documents of its run: a table says where and in what unit."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from annotated_types import Gt

from ptystream.errors import ConfigError
from ptystream.ingest.preprocess_options import CLOSED
from ptystream.wire.messages import PLANCK_EV_M

Value = Literal[
    "energy_ev",
    "wavelength_m",
    "distance_m",
    "detector_pixel_m",
    "dwell_s",
    "angle_deg",
    "y_scale_m",
    "x_scale_m",
]
"""What a table can tell; ``scale_m`` are metres to an encoder's count, and take the
place of the configuration's ``positions`` but for their sign: the direction."""

_POSITIVE = ("energy_ev", "wavelength_m", "distance_m", "detector_pixel_m", "dwell_s")


@dataclass(frozen=True, slots=True)
class DocumentKey:
    """Where a document has a value, and what makes it ours."""

    __pydantic_config__ = CLOSED

    keys: tuple[str, ...]
    """Dotted, such as ``scan.detector_distance``; the first that there is."""
    scale: float = 1.0
    """Our unit for one of the document's, by which its number is multiplied."""
    spacing_m: Annotated[float, Gt(0)] | None = None
    """The number is a Bragg angle in degrees, and this the distance of the crystal's
    planes: an energy in eV."""
    names: Mapping[str, float] = field(default_factory=dict)
    """The value is a name, or several: the number of the first that begins so."""


Table = Mapping[Value, DocumentKey]


@dataclass(frozen=True, slots=True)
class Found:
    """A value, and where it was."""

    value: float
    origin: str


def read_document(
    document: Mapping[str, Any], table: Table, title: str
) -> dict[Value, Found]:
    """Return the table's values that a document has.

    ``title`` names the document in origins and errors. Of a list of numbers, such as a
    baseline's before and after, it is the first.

    Raises:
        ConfigError: a value is none that the table's row can read, or not positive
            where it must be.
    """
    found: dict[Value, Found] = {}
    for name, row in table.items():
        for key in row.keys:
            value = _at(document, key)
            if value is not None:
                where = f"{title}: {key}"
                found[name] = Found(_number(name, value, row, where), where)
                break
    return found


def _at(document: Mapping[str, Any], key: str) -> Any:
    """Return what a dotted key leads to, or the key itself with its dots; else None."""
    if key in document:
        return document[key]
    value: Any = document
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _number(name: Value, value: Any, row: DocumentKey, where: str) -> float:
    """Turn a document's value into ours."""
    number = _by_name(value, row.names) if row.names else _plain(value)
    if number is not None and math.isfinite(number):
        number *= row.scale
        if row.spacing_m is not None:
            sine = math.sin(math.radians(number))
            number = PLANCK_EV_M / (2 * row.spacing_m * sine) if sine > 0 else 0.0
    if number is None or not math.isfinite(number):
        wanted = f"one of {', '.join(row.names)}" if row.names else "a number"
        raise ConfigError(f"{where} is {value!r}, expected {wanted}")
    if name.endswith("_scale_m") and number == 0:
        raise ConfigError(f"{where} is {value!r}, expected {name} other than 0")
    if name in _POSITIVE and number <= 0:
        raise ConfigError(f"{where} is {value!r}, expected {name} above 0")
    return number


def _plain(value: Any) -> float | None:
    """Return a number, or the first of several."""
    if isinstance(value, str | bytes | Mapping | bool):
        return None
    if isinstance(value, Iterable):
        return _plain(next(iter(value), None))
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _by_name(value: Any, names: Mapping[str, float]) -> float | None:
    """Return the number of the first name that begins as one in the table."""
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, Iterable):
        return None
    for text in texts:
        for name, number in names.items():
            if isinstance(text, str) and text.startswith(name):
                return number
    return None
