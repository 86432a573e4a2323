"""CBOR (RFC 8949) that never copies: byte strings are views of the message.

A detector's image is one long byte string among forty short items. A library's decoder
copies it, 0.3 ms for 2 MB, and those of cbor2 differ from version to version.
Lengths are checked before anything is made of them; indefinite ones, which detectors
don't send, are refused.
"""

import struct
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ptystream.errors import DecodeError
from ptystream.wire.codecs import Buffer

MAX_ITEMS = 1 << 16
"""Items in one message; a detector's start has about a hundred."""
MAX_DEPTH = 16

_WHOLE, _NEGATIVE, _BYTES, _TEXT, _ARRAY, _MAP, _TAG, _SIMPLE = range(8)
_LENGTHS = {24: struct.Struct(">B"), 25: struct.Struct(">H")}
_LENGTHS |= {26: struct.Struct(">I"), 27: struct.Struct(">Q")}
_FLOATS = {25: struct.Struct(">e"), 26: struct.Struct(">f"), 27: struct.Struct(">d")}
_CONSTANTS = {20: False, 21: True, 22: None, 23: None}


class Tag(NamedTuple):
    """A tagged item."""

    number: int
    value: Any


def decode(data: Buffer) -> Any:
    """Return the one item that ``data`` is; raise DecodeError and nothing else.

    Byte strings become memoryviews, arrays lists, maps dicts with text or number keys.
    """
    reader = _Reader(memoryview(data).cast("B"))
    try:
        value = reader.item(MAX_DEPTH)
    except (struct.error, IndexError, UnicodeDecodeError) as e:
        raise DecodeError(f"CBOR at byte {reader.at} of {len(data)}: {e}") from e
    if reader.at != len(reader.view):
        raise DecodeError(f"CBOR ends at byte {reader.at} of {len(data)}")
    return value


class _Reader:
    """Walks one message."""

    __slots__ = ("at", "left", "view")

    def __init__(self, view: memoryview) -> None:
        self.view, self.at, self.left = view, 0, MAX_ITEMS

    def item(self, depth: int) -> Any:
        """Return the next item."""
        self.left -= 1
        if depth < 0 or self.left < 0:
            raise DecodeError(
                f"CBOR deeper than {MAX_DEPTH}, or over {MAX_ITEMS} items"
            )
        initial = self.view[self.at]
        self.at += 1
        major, info = initial >> 5, initial & 31
        if major == _SIMPLE:
            return self._simple(info)
        number = info if info < 24 else self._number(info)
        return number if major == _WHOLE else self._rest(major, number, depth)

    def _rest(self, major: int, number: int, depth: int) -> Any:
        """Return an item that is no whole number, by its kind."""
        if major == _TEXT:
            return str(self._span(number), "utf-8")
        if major == _MAP:
            return self._map(self._count(2 * number) // 2, depth - 1)
        if major == _ARRAY:
            return [self.item(depth - 1) for _ in range(self._count(number))]
        if major == _BYTES:
            return self._span(number)
        return Tag(number, self.item(depth - 1)) if major == _TAG else -1 - number

    def _number(self, info: int) -> int:
        if info not in _LENGTHS:
            raise DecodeError(f"CBOR length of kind {info}, expected a definite one")
        return self._unpack(_LENGTHS[info])

    def _unpack(self, form: struct.Struct) -> Any:
        (value,) = form.unpack_from(self.view, self.at)
        self.at += form.size
        return value

    def _span(self, length: int) -> memoryview:
        start, stop = self.at, self.at + length
        if stop > len(self.view):
            raise DecodeError(f"CBOR string of {length} bytes beyond the message's end")
        self.at = stop
        return self.view[start:stop]

    def _count(self, items: int) -> int:
        if items > len(self.view) - self.at:
            raise DecodeError(f"CBOR claims {items} items beyond the message's end")
        return items

    def _map(self, pairs: int, depth: int) -> dict[str | int, Any]:
        found: dict[str | int, Any] = {}
        for _ in range(pairs):
            key = self.item(depth)
            if not isinstance(key, str | int):
                raise DecodeError(f"CBOR map with a key of {type(key).__name__}")
            found[key] = self.item(depth)
        return found

    def _simple(self, info: int) -> float | bool | None:
        if info in _FLOATS:
            return self._unpack(_FLOATS[info])
        if info not in _CONSTANTS:
            raise DecodeError(f"CBOR simple value of kind {info}")
        return _CONSTANTS[info]


def encode(value: Any) -> bytes:
    """Return the bytes of text, numbers, buffers, sequences, maps and tags.

    Raises:
        TypeError: for anything else.
        OverflowError: for a whole number of more than 64 bits.
    """
    parts: list[Buffer] = []
    _put(value, parts)
    return b"".join(parts)


def _put(value: Any, parts: list[Buffer]) -> None:
    if isinstance(value, bool) or value is None:
        parts.append({False: b"\xf4", True: b"\xf5", None: b"\xf6"}[value])
    elif isinstance(value, int):
        parts.append(
            _head(_WHOLE, value) if value >= 0 else _head(_NEGATIVE, -1 - value)
        )
    elif isinstance(value, float):
        parts.append(struct.pack(">Bd", 0xFB, value))
    elif isinstance(value, str):
        parts += [_head(_TEXT, len(value.encode())), value.encode()]
    elif isinstance(value, bytes | memoryview):
        parts += [_head(_BYTES, len(value)), value]
    elif isinstance(value, Tag):
        parts.append(_head(_TAG, value.number))
        _put(value.value, parts)
    else:
        _put_many(value, parts)


def _put_many(value: Any, parts: list[Buffer]) -> None:
    if isinstance(value, Mapping):
        parts.append(_head(_MAP, len(value)))
        items = [item for pair in value.items() for item in pair]
    elif isinstance(value, Sequence):
        parts.append(_head(_ARRAY, len(value)))
        items = list(value)
    else:
        raise TypeError(f"CBOR can't hold {type(value).__name__}")
    for item in items:
        _put(item, parts)


def _head(major: int, number: int) -> bytes:
    if number < 24:
        return bytes([major << 5 | number])
    for info, form in _LENGTHS.items():
        if number < 1 << 8 * form.size:
            return bytes([major << 5 | info]) + form.pack(number)
    raise OverflowError(f"{number} has more than 64 bits")
