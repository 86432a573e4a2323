"""Which encoder column is which axis, and how its counts become metres."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ptystream.errors import DecodeError
from ptystream.wire.columns import CAPTURES, Columns, Scaling

TIMES = ("PCAP.TS_START", "PCAP.TS_TRIG", "PCAP.TS_END")
"""Where a sample's time is looked for, unless told."""
UNITS_M = {"m": 1.0, "mm": 1e-3, "um": 1e-6, "µm": 1e-6, "nm": 1e-9, "pm": 1e-12}
_UNITS_S = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
_SECONDS = Scaling(1.0, 0.0, "s")


@dataclass(frozen=True, slots=True)
class Axis:
    """Where one coordinate comes from: metres = counts * ``scale_m`` + ``offset_m``.

    ``column`` is an encoder, ``INENC1.VAL``, of which the best capture is taken, or one
    capture, ``INENC1.VAL.Mean``. Without ``scale_m`` the box's own scale, offset and
    unit of length are used.
    """

    column: str
    scale_m: float | None = None
    offset_m: float = 0.0


@dataclass(frozen=True, slots=True)
class Track:
    """Encoder rows in metres: ``mean_m`` is ``[n, 2]`` (y, x).

    Rows of a gate span a whole exposure, from ``start_m`` to ``end_m``; others are
    points, of which an exposure may have many. ``time_s`` is the box's clock ``[n]``,
    ``monitor`` the beam's strength in counts ``[n]``.
    """

    mean_m: np.ndarray
    start_m: np.ndarray | None
    end_m: np.ndarray | None
    time_s: np.ndarray | None
    gated: bool
    monitor: np.ndarray | None = None


@dataclass(frozen=True, slots=True)
class _Path:
    """One axis: its mean, its motion from start to end, and what that is made of."""

    mean: np.ndarray
    motion: np.ndarray | None
    kind: Literal["point", "diff", "span"]


class EncoderTable:
    """Turns columns into positions; remembers the last one, to tell where a gate went.

    A Mean is the centre of its gate; Diff is how far it went; Min and Max tell how
    far, and the means before and after in which direction. Without a Mean it is
    Min's and Max's middle, or the Value.
    """

    def __init__(
        self, y: Axis, x: Axis, time: str | None = None, monitor: str | None = None
    ) -> None:
        self._axes = y, x
        self._monitor = monitor
        self._times = (time,) if time else TIMES
        self._last = [np.nan, np.nan]

    def begin(self) -> None:
        """Forget the last scan's position."""
        self._last = [np.nan, np.nan]

    def track(self, columns: Columns) -> Track:
        """Return the rows in metres; raise DecodeError for a column that isn't there.

        Rows that aren't finite are an empty gate's; they are the caller's to drop.
        """
        paths = [self._path(k, axis, columns) for k, axis in enumerate(self._axes)]
        mean = np.stack([path.mean for path in paths], axis=1)
        start = end = None
        if all(path.motion is not None for path in paths):
            motion = np.stack([np.asarray(path.motion) for path in paths], axis=1)
            start, end = mean - motion / 2, mean + motion / 2
        gated = any(path.kind != "point" for path in paths)
        return Track(
            mean, start, end, self._time(columns), gated, self._strength(columns)
        )

    def _path(self, k: int, axis: Axis, columns: Columns) -> _Path:
        got = _captures(axis.column, columns.columns)
        scale, offset = _to_metres(axis, got, columns.scaling)
        mean, kind = _centre(got)
        motion = None
        if "Diff" in got:
            motion, kind = got["Diff"] * scale, "diff"
        mean = mean * scale + offset
        if motion is None and "Min" in got and "Max" in got:
            span = np.abs((got["Max"] - got["Min"]) * scale)
            motion, kind = span * _direction(mean, self._last[k]), "span"
        if len(mean):
            self._last[k] = float(mean[-1])
        return _Path(mean, motion, kind)

    def _strength(self, columns: Columns) -> np.ndarray | None:
        """Return the beam's monitor, in counts; None if no column is named."""
        if self._monitor is None:
            return None
        got = _captures(self._monitor, columns.columns)
        kind = next((k for k in ("Mean", "Value", "Diff", "Sum") if k in got), None)
        if kind is None:
            raise DecodeError(
                f"monitor {self._monitor!r} has captures {sorted(got)}: expected Mean, "
                f"Value, Diff or Sum"
            )
        return got[kind].astype(np.float64)

    def _time(self, columns: Columns) -> np.ndarray | None:
        """Return when each row was taken; None if no column tells.

        A column that comes without a unit, as in JSON, is in seconds.
        """
        for name in self._times:
            for column, values in _matching(name, columns.columns).items():
                scale, _, units = columns.scaling.get(column, _SECONDS)
                if units in _UNITS_S:
                    return values * scale * _UNITS_S[units]
        return None


def _matching(name: str, columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the columns of an encoder, by full name; just the one that is named."""
    if name in columns:
        return {name: columns[name]}
    full = [f"{name}.{capture}" for capture in CAPTURES]
    return {column: columns[column] for column in full if column in columns}


def _captures(name: str, columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return an encoder's captures by their kind; DecodeError if there is none."""
    found = _matching(name, columns)
    if not found:
        raise DecodeError(f"no encoder column {name!r}; there are {sorted(columns)}")
    kinds = {full.rpartition(".")[2]: column for full, column in found.items()}
    if name in columns and not set(kinds) <= set(CAPTURES):
        return {"Value": columns[name]}  # a column that its beamline named itself
    return kinds


def _centre(
    got: Mapping[str, np.ndarray],
) -> tuple[np.ndarray, Literal["point", "span"]]:
    """Return the best guess of the middle, in counts, and whether it is a gate's."""
    if "Mean" in got:
        return got["Mean"], "span"
    if "Min" in got and "Max" in got:
        return (got["Min"] + got["Max"]) / 2, "span"
    if "Value" in got:
        return got["Value"], "point"
    raise DecodeError(f"captures {sorted(got)}: expected Value, Mean, or Min and Max")


def _to_metres(
    axis: Axis, got: Mapping[str, np.ndarray], scalings: Mapping[str, Scaling]
) -> tuple[float, float]:
    """Return scale and offset, of the settings or else the box's own."""
    if axis.scale_m is not None:
        return axis.scale_m, axis.offset_m
    names = [axis.column, *(f"{axis.column}.{kind}" for kind in got)]
    known = next((scalings[name] for name in names if name in scalings), None)
    if known is None or known.units not in UNITS_M:
        units = "no unit" if known is None else f"unit {known.units!r}"
        raise DecodeError(
            f"encoder column {axis.column!r} has {units}: set its scale_m, in metres "
            f"per count"
        )
    unit = UNITS_M[known.units]
    return known.scale * unit, known.offset * unit + axis.offset_m


def _direction(mean: np.ndarray, before: float) -> np.ndarray:
    """Return +1 or -1 for each row: where the means before and after it point."""
    if not len(mean):
        return mean
    known = [mean[0] if np.isnan(before) else before]
    around = np.concatenate([known, mean, mean[-1:]])
    return np.where(around[2:] - around[:-2] < 0, -1.0, 1.0)
