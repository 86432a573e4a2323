"""The bytes of a tape: a preamble, a JSON header, then records; pure, little-endian.

A record is a head of 36 bytes, the stream's name, the length of each part as u32, and
the parts. One crc covers all before the parts, so that no length is believed before it
is checked; it is seeded with the record's own offset, so that a tape inside another
tape's payload is never taken for its records. The other covers the parts: it can be
taken when a message arrives, wherever it will be written.
"""

import json
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import Any, Final, NamedTuple, cast
from zlib import crc32

from ptystream.errors import TapeError

Part = bytes | memoryview

MAGIC: Final = b"PTYSTAPE"
VERSION: Final = 1
PREAMBLE: Final = struct.Struct("<8sIII")
"""Magic, version, bytes of the JSON header, crc32 of it."""
SYNC: Final = b"\x93TR\x1a"
MAX_HEADER_BYTES: Final = 1 << 20
MAX_RECORD_BYTES: Final = 1 << 30
"""A record's body may not be longer; a claim of more is damage."""
MAX_PARTS: Final = 0xFFFF
RECORD_LAYOUT: Final = (
    "sync 4s, head crc32 u32 (seed: crc32 of the record's offset as u64; over what "
    "follows it up to the parts), parts crc32 u32, bytes after this head u32, name "
    "bytes u16, parts u16, monotonic ns u64, wall ns u64, name utf-8, part lengths "
    "u32 each, parts; little-endian"
)

_SYNC_CRC = struct.Struct("<4sI")
_FIELDS = struct.Struct("<IIHHQQ")
HEAD_BYTES: Final = _SYNC_CRC.size + _FIELDS.size


@dataclass(frozen=True, slots=True)
class Record:
    """One multipart message as it arrived; ``offset`` is its place on the tape.

    ``crc`` is that of its parts, None until someone has taken it.
    """

    stream: str
    parts: tuple[Part, ...]
    mono_ns: int
    wall_ns: int
    offset: int = field(default=-1, compare=False)
    crc: int | None = field(default=None, compare=False)


class Head(NamedTuple):
    """The fixed part of a record; its lengths aren't checked against the crc yet."""

    crc: int
    parts_crc: int
    body_bytes: int
    name_bytes: int
    parts: int
    mono_ns: int
    wall_ns: int

    @property
    def front_bytes(self) -> int:
        """Bytes of the name and the parts' lengths."""
        return self.name_bytes + 4 * self.parts


def encode_header(header: Mapping[str, Any]) -> bytes:
    """Return preamble and JSON header; TapeError if it isn't JSON or is over 1 MiB."""
    try:
        text = json.dumps(dict(header), indent=1, allow_nan=False).encode()
    except (TypeError, ValueError) as e:
        raise TapeError(f"tape header: expected what JSON can hold: {e}") from e
    if len(text) > MAX_HEADER_BYTES:
        raise TapeError(f"tape header: {len(text)} bytes > {MAX_HEADER_BYTES}")
    return PREAMBLE.pack(MAGIC, VERSION, len(text), crc32(text)) + text


def decode_preamble(raw: bytes) -> tuple[int, int]:
    """Return the header's length and crc; TapeError if this is no tape of ours."""
    if len(raw) < PREAMBLE.size:
        raise TapeError(f"not a tape: {len(raw)} bytes, expected >= {PREAMBLE.size}")
    magic, version, size, crc = PREAMBLE.unpack(raw)
    if magic != MAGIC:
        raise TapeError(f"not a tape: begins with {magic!r}, expected {MAGIC!r}")
    if version != VERSION:
        raise TapeError(f"tape of version {version}: this reads version {VERSION}")
    return size, crc


def decode_header(text: bytes, crc: int) -> dict[str, Any] | None:
    """Return the header; None if it is damaged."""
    if crc32(text) != crc:
        return None
    try:
        header = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return cast("dict[str, Any]", header) if isinstance(header, dict) else None


def parts_crc(parts: Iterable[Part]) -> int:
    """Return the crc32 of the parts, one after the other."""
    crc = 0
    for part in parts:
        crc = crc32(part, crc)
    return crc


def encode_record(record: Record, offset: int) -> tuple[list[Part], int]:
    """Return a record's buffers at this offset, and how long they are.

    Its parts are not copied. It takes 2 us beside the checksum of the parts.

    Raises:
        TapeError: a time is negative, or the record is too long or has too many parts.
    """
    name = record.stream.encode()
    parts = list(record.parts)
    for i, part in enumerate(parts):
        if type(part) is not bytes:
            parts[i] = _flat(part)
    sizes = list(map(len, parts))
    count = len(sizes)
    body_bytes = len(name) + 4 * count + sum(sizes)
    if body_bytes > MAX_RECORD_BYTES or count > MAX_PARTS:
        raise TapeError(f"record of {count} parts, {body_bytes} bytes: too large")
    crc = parts_crc(parts) if record.crc is None else record.crc
    times = record.mono_ns, record.wall_ns
    try:
        front = _front_of(len(name), count).pack(
            crc, body_bytes, len(name), count, *times, name, *sizes
        )
    except struct.error as e:
        raise TapeError(f"record of stream {record.stream[:80]!r}: {e}") from e
    parts.insert(0, _SYNC_CRC.pack(SYNC, _head_crc(offset, front)) + front)
    return parts, HEAD_BYTES + body_bytes


@lru_cache(maxsize=256)
def _front_of(name_bytes: int, parts: int) -> struct.Struct:
    """Return the layout of all that the head's crc covers."""
    return struct.Struct(f"{_FIELDS.format}{name_bytes}s{parts}I")


def _flat(part: Part) -> Part:
    """Return the part as bytes one by one, so that ``len`` counts bytes."""
    if isinstance(part, bytes):
        return part
    return part.cast("B") if part.c_contiguous else part.tobytes()


def _head_crc(offset: int, front: bytes) -> int:
    return crc32(front, crc32(offset.to_bytes(8, "little")))


def decode_head(raw: bytes) -> Head | None:
    """Return the head, or None if it can't be one: no sync, or absurd lengths."""
    if len(raw) != HEAD_BYTES or raw[:4] != SYNC:
        return None
    crc = _SYNC_CRC.unpack_from(raw)[1]
    head = Head(crc, *_FIELDS.unpack_from(raw, _SYNC_CRC.size))
    fits = head.front_bytes <= head.body_bytes <= MAX_RECORD_BYTES
    return head if fits else None


def decode_front(
    head: Head, raw: bytes, front: bytes, offset: int
) -> tuple[str, tuple[int, ...]] | None:
    """Return the stream and the parts' lengths; None if they aren't what was written.

    ``raw`` is the head's own bytes, ``front`` the ``front_bytes`` after them.
    """
    if len(front) != head.front_bytes:
        return None
    if _head_crc(offset, raw[_SYNC_CRC.size :] + front) != head.crc:
        return None
    sizes = struct.unpack_from(f"<{head.parts}I", front, head.name_bytes)
    if head.front_bytes + sum(sizes) != head.body_bytes:
        return None
    try:
        return front[: head.name_bytes].decode(), sizes
    except UnicodeDecodeError:
        return None


def decode_parts(
    head: Head, body: bytes, sizes: Iterable[int]
) -> tuple[Part, ...] | None:
    """Return the parts; None if they don't match their crc."""
    if crc32(body) != head.parts_crc:
        return None
    return tuple(body[a:b] for a, b in pairwise(accumulate(sizes, initial=0)))
