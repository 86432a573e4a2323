"""Where each record of a tape is, and when: known without reading the tape again.

The index lies beside the tape, as ``NAME.index``: a head, the streams' names as JSON,
the rows. It is only a copy of what the tape says: one that is missing, damaged or of
another tape is made anew, one of a tape that has grown is carried on. A damaged tape
has none, so that its damage is told each time.
"""

import contextlib
import json
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Self, cast
from zlib import crc32

import numpy as np

from ptystream.tape import format as fmt
from ptystream.tape.log import Damage, TapeReader

ROW = np.dtype(
    [
        ("offset", "<u8"),
        ("end", "<u8"),
        ("parts_bytes", "<u8"),
        ("mono_ns", "<u8"),
        ("wall_ns", "<u8"),
        ("stream", "<u2"),
    ]
)
MAGIC = b"PTYSINDX"
_HEAD = struct.Struct(f"<8sI{fmt.PREAMBLE.size}sI")
"""Magic, crc32 of what follows, the tape's preamble, bytes of the streams' names."""
AT_ONCE = 1 << 16
"""Records gathered before they become rows of an array."""
MAX_STREAMS = 1 << 16


@dataclass(frozen=True, slots=True)
class TapeIndex:
    """The records of a tape, in order: ``rows`` of ``ROW``, ``streams`` by number."""

    rows: np.ndarray
    streams: tuple[str, ...]
    damage: Damage

    def of(self, stream: str) -> np.ndarray:
        """Return the rows of one stream."""
        if stream not in self.streams:
            return self.rows[:0]
        return self.rows[self.rows["stream"] == self.streams.index(stream)]

    @classmethod
    def read(cls, tape: TapeReader) -> Self:
        """Return the index of an open tape, of its file or made, and keep it there."""
        known = _kept(tape)
        rows, streams = known or (np.empty(0, ROW), [])
        more = list(_blocks(tape, int(rows["end"][-1]) if len(rows) else 0, streams))
        index = cls(np.concatenate([rows, *more]), tuple(streams), tape.damage)
        if more and not tape.damage:
            _keep(tape, index)
        return index


def index_path(tape: Path) -> Path:
    """Return where a tape's index is kept."""
    return tape.with_name(f"{tape.name}.index")


def _blocks(tape: TapeReader, at: int, streams: list[str]) -> Iterator[np.ndarray]:
    """Yield rows for what comes after ``at``; names that are new join ``streams``."""
    glances = tape.glances(at)
    numbers = {name: number for number, name in enumerate(streams)}
    while some := list(islice(glances, AT_ONCE)):
        block = np.empty(len(some), ROW)
        for row, glance in enumerate(some):
            if glance.stream not in numbers and len(streams) < MAX_STREAMS:
                numbers[glance.stream] = len(streams)
                streams.append(glance.stream)
            block[row] = (*glance[1:], numbers.get(glance.stream, MAX_STREAMS - 1))
        yield block


def _kept(tape: TapeReader) -> tuple[np.ndarray, list[str]] | None:
    """Return what the index's file holds, if it is this tape's."""
    try:
        found = _decode(index_path(tape.path), tape.path)
    except (OSError, ValueError, RecursionError):
        return None
    if found is None:
        return None
    rows, streams = found
    if not len(rows) or int(rows["stream"].max()) >= max(len(streams), 1):
        return None
    last = next(tape.glances(int(rows["offset"][-1])), None)
    if last is None or (last.offset, last.end) != (rows["offset"][-1], rows["end"][-1]):
        return None
    return rows, streams


def _decode(path: Path, tape: Path) -> tuple[np.ndarray, list[str]] | None:
    """Return the rows and streams of a file that is whole and of this tape."""
    if path.stat().st_size > 2 * tape.stat().st_size + _HEAD.size:
        return None  # a record has more bytes on the tape than two rows: damage
    raw = memoryview(path.read_bytes())
    if len(raw) < _HEAD.size:
        return None
    magic, crc, preamble, names = _HEAD.unpack_from(raw)
    body = raw[_HEAD.size :]
    if (magic, crc, preamble) != (MAGIC, crc32(body), _preamble(tape)):
        return None
    streams = json.loads(bytes(body[:names]))
    if not isinstance(streams, list):
        return None
    rows = np.frombuffer(body[names:], ROW)
    return rows, [str(name) for name in cast("list[object]", streams)]


def _keep(tape: TapeReader, index: TapeIndex) -> None:
    """Write the index's file; where that isn't allowed there will be none."""
    path = index_path(tape.path)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    names = json.dumps(index.streams).encode()
    body = names + index.rows.tobytes()
    head = _HEAD.pack(MAGIC, crc32(body), _preamble(tape.path), len(names))
    with contextlib.suppress(OSError):
        try:
            part.write_bytes(head + body)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


def _preamble(tape: Path) -> bytes:
    """Return the bytes that tell one tape from another: its header's checksum."""
    with tape.open("rb") as file:
        return file.read(fmt.PREAMBLE.size)
