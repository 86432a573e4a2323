"""The msgpack headers of ``ptys/1``, one struct a kind; msgspec checks the types.

The keys are short where the message is frequent. Keys that aren't here are ignored.
"""

import math
from typing import Annotated, Any, Literal, TypeGuard

import msgspec
from msgspec import Meta

from ptystream.wire.messages import EndReason, Geometry

Stream = Literal["det", "pos"]
MAX_INDEX = 1 << 40
"""Indices from here on are nonsense: 35 years at 1 kHz."""

_MAX_META_DEPTH = 16

_Count = Annotated[int, Meta(ge=0, lt=1 << 62)]
_Index = Annotated[int, Meta(ge=0, lt=MAX_INDEX)]
_Name = Annotated[str, Meta(max_length=256)]
_Side = Annotated[int, Meta(ge=1, lt=1 << 20)]


def is_whole(value: object, end: int = MAX_INDEX) -> TypeGuard[int]:
    """Tell whether this is a whole number from 0 to below ``end``: a bool is none."""
    return type(value) is int and 0 <= value < end


class Head(msgspec.Struct, frozen=True):
    """What every header has: version, kind, stream, run, sequence, time (ns)."""

    v: Literal[1]
    k: _Name
    s: _Name
    r: _Name
    q: _Count
    t: _Count


class Buf(msgspec.Struct, frozen=True):
    """One buffer: dtype, shape, encoding, bytes, and its name where order won't do."""

    dt: _Name
    sh: Annotated[list[_Side], Meta(min_length=1, max_length=4)]
    enc: _Name
    n: _Count
    nm: _Name = ""


class _Geometry(msgspec.Struct, frozen=True):
    wavelength_m: float
    distance_m: float
    pixel_m: tuple[float, float]
    origins: dict[str, str] = {}

    def __post_init__(self) -> None:
        for value in (self.wavelength_m, self.distance_m, *self.pixel_m):
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"geometry has {value}, expected > 0")

    def build(self) -> Geometry:
        return Geometry(
            self.wavelength_m, self.distance_m, self.pixel_m, dict(self.origins)
        )


class Start(Head, frozen=True):
    """A scan begins; ``r`` is its uid."""

    s: Stream
    n: _Index | None = None
    sh: tuple[_Side, _Side] | None = None
    dt: _Name | None = None
    geo: _Geometry | None = None
    dwell: Annotated[float, Meta(ge=0)] | None = None
    again: bool = False
    meta: dict[str, Any] = {}

    def __post_init__(self) -> None:
        if not self.r:
            raise ValueError("a scan without a uid")
        if self.dwell is not None and not math.isfinite(self.dwell):
            raise ValueError(f"dwell of {self.dwell} s")
        _check_json(self.meta)


class FrameHead(Head, frozen=True):
    """A frame: trigger index ``f``, exposure from ``t0`` to ``t1`` (ns)."""

    s: Literal["det"]
    f: _Index
    bufs: Annotated[list[Buf], Meta(min_length=1, max_length=1)]
    t0: _Count = 0
    t1: _Count = 0


class Positions(Head, frozen=True):
    """Samples from number ``i0``, ``per`` of them a frame; columns by name."""

    s: Literal["pos"]
    i0: _Index
    per: Annotated[int, Meta(ge=1)]
    bufs: Annotated[list[Buf], Meta(min_length=2, max_length=16)]


class Beat(Head, frozen=True):
    """A heartbeat."""

    s: Stream


class End(Head, frozen=True):
    """A stream ends: why, and how many frames or samples were sent."""

    s: Stream
    why: EndReason
    n: _Count | None = None


def _check_json(value: Any, depth: int = 0) -> None:
    """Refuse what JSON can't hold: bytes, msgpack extensions, keys but text."""
    if depth > _MAX_META_DEPTH:
        raise ValueError(f"metadata deeper than {_MAX_META_DEPTH}")
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise ValueError("a metadata key isn't text")
        for item in value.values():
            _check_json(item, depth + 1)
    elif isinstance(value, list):
        for item in value:
            _check_json(item, depth + 1)
    elif value is not None and not isinstance(value, bool | int | float | str):
        raise ValueError(f"metadata holds {type(value).__name__}")
