"""PandABox's data port in ``XML FRAMED RAW``: bytes to headers, rows and ends.

A connection asks with one line and is told ``OK``. Then, for each time the box is
armed: an XML header and an empty line; blocks of ``BIN ``, a u32 little-endian length
that counts these eight bytes too, and packed little-endian rows, which go on from one
block to the next; at last ``END <rows> <reason>``. Nothing here knows a socket.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree import ElementTree

import numpy as np

from ptystream.errors import DecodeError
from ptystream.wire.codecs import Buffer
from ptystream.wire.columns import Columns, Scaling
from ptystream.wire.headers import MAX_INDEX

REQUEST = b"XML FRAMED RAW\n"
"""What a client says first."""
MAX_HEADER_BYTES = 1 << 16
MAX_LINE_BYTES = 256
MAX_BLOCK_BYTES = 1 << 20
"""The box's own blocks have 64 KiB."""
GOOD_ENDS = ("Ok", "Disarmed", "Manually stopped")
"""After any other the last block may be corrupt: the box overwrote it while sending."""

_TYPES = {"int32": "<i4", "uint32": "<u4", "int64": "<i8", "double": "<f8"}
_SKIPPED = {"int96": "V12", "uint96": "V12"}  # what a StdDev is made of
_SAMPLES = "PCAP.SAMPLES.Value"
_GATE = "PCAP.GATE_DURATION.Value"
_BLOCK = struct.Struct("<4sI")
_HEADER_END = b"</header>\n"


@dataclass(frozen=True, slots=True)
class Field:
    """One captured column; ``scaling`` is None for bits, which have none."""

    name: str
    capture: str
    type: str
    scaling: Scaling | None = None

    @property
    def column(self) -> str:
        """Return its name as a column: ``INENC1.VAL.Mean``."""
        return f"{self.name}.{self.capture}"


@dataclass(frozen=True, slots=True)
class Header:
    """What the box says when it is armed.

    ``missed`` rows were sent before this connection was there. Times are as the box
    writes them, empty where it is too old to tell.
    """

    fields: tuple[Field, ...]
    arm_time: str = ""
    start_time: str = ""
    missed: int = 0
    process: str = "Raw"

    @property
    def dtype(self) -> np.dtype:
        """Return the layout of a row."""
        types = _TYPES | _SKIPPED
        return np.dtype([(field.column, types[field.type]) for field in self.fields])


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows as they were packed; ``first`` is the number of the first one."""

    header: Header
    first: int
    rows: np.ndarray

    def columns(self, scan: str) -> Columns:
        """Return them as counts: sums divided, scaling of the box undone."""
        fields = [field for field in self.header.fields if field.type in _TYPES]
        values = {field.column: self._counts(field) for field in fields}
        scaling = {f.column: f.scaling for f in fields if f.scaling is not None}
        return Columns(scan, self.first, values, scaling)

    def _counts(self, field: Field) -> np.ndarray:
        values = self.rows[field.column].astype(np.float64)
        if self.header.process != "Raw":
            if field.scaling is None or not field.scaling.scale:
                return values
            return (values - field.scaling.offset) / field.scaling.scale
        if field.capture != "Mean":
            return values
        names = self.rows.dtype.names or ()
        samples = next((n for n in (_GATE, _SAMPLES) if n in names), None)
        if samples is None:
            raise DecodeError(f"{field.column}: neither {_GATE} nor {_SAMPLES} beside")
        with np.errstate(divide="ignore", invalid="ignore"):
            return values / self.rows[samples]


@dataclass(frozen=True, slots=True)
class End:
    """The box is done: how many rows it sent here, and why."""

    rows: int
    reason: str


Event = Header | Rows | End


class DataPort:
    """Bytes in, in any pieces; events out. After DecodeError only a new one helps.

    Rows are held back until the next block, or a good end, vouches for theirs. Held
    are at most a header of 64 KiB, or two blocks of 1 MiB.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._answered = False
        self._header: Header | None = None
        self._dtype = np.dtype([])
        self._block = b""
        self._rest = b""
        self._row = 0

    def feed(self, data: Buffer) -> Iterator[Event]:
        """Take what came; yield what it completes; raise DecodeError and no other."""
        self._buffer += data
        while True:
            before = len(self._buffer)
            yield from self._step()
            if len(self._buffer) == before:
                return

    def _step(self) -> Iterator[Event]:
        """Take one piece off the buffer, if it is there."""
        if self._header is None:
            self._between()
            if self._header is not None:
                yield self._header
        elif self._buffer[:4] == b"BIN ":
            yield from self._take_block()
        elif self._buffer[:1] == b"\n":
            del self._buffer[:1]
        elif b"END ".startswith(self._buffer[:4]):
            if line := self._line():
                yield from self._end(line)
        elif not b"BIN ".startswith(self._buffer[:4]):
            found = bytes(self._buffer[:20])
            raise DecodeError(f"data port: {found!r}, expected a block or END")

    def _between(self) -> None:
        """Expect the answer to our request, or a header."""
        if self._buffer[:1] != b"<":
            line = self._line()
            if line == b"OK" and not self._answered:
                self._answered = True
            elif line:
                raise DecodeError(f"data port: {line[:80]!r}, expected <header>")
            return
        end = self._buffer.find(_HEADER_END)
        if max(end, 0 if end >= 0 else len(self._buffer)) > MAX_HEADER_BYTES:
            raise DecodeError(f"data port: header of more than {MAX_HEADER_BYTES}")
        if end >= 0:
            end += len(_HEADER_END)
            self._header = decode_header(bytes(self._buffer[:end]))
            del self._buffer[:end]
            self._dtype = self._header.dtype
            self._row = self._header.missed
            self._block = self._rest = b""

    def _line(self) -> bytes | None:
        """Return the next line, None if its end isn't there yet."""
        line, end, _ = self._buffer[: MAX_LINE_BYTES + 1].partition(b"\n")
        if not end:
            if len(line) > MAX_LINE_BYTES:
                raise DecodeError(f"data port: a line longer than {MAX_LINE_BYTES}")
            return None
        del self._buffer[: len(line) + 1]
        return bytes(line)

    def _take_block(self) -> Iterator[Event]:
        if len(self._buffer) < _BLOCK.size:
            return
        _, size = _BLOCK.unpack_from(self._buffer)
        if not _BLOCK.size <= size <= MAX_BLOCK_BYTES:
            raise DecodeError(f"data port: block of {size}, at most {MAX_BLOCK_BYTES}")
        if len(self._buffer) >= size:
            yield from self._release()
            self._block = bytes(self._buffer[_BLOCK.size : size])
            del self._buffer[:size]

    def _release(self) -> Iterator[Event]:
        """Give out the rows of the block that was held back."""
        data, size = self._rest + self._block, self._dtype.itemsize
        count = len(data) // size
        self._rest, self._block = data[count * size :], b""
        if count and self._header is not None:
            rows = np.frombuffer(data, self._dtype, count)
            yield Rows(self._header, self._row, rows)
            self._row += count

    def _end(self, line: bytes) -> Iterator[Event]:
        end = _decode_end(line)
        if end.reason in GOOD_ENDS:
            yield from self._release()
        self._header = None
        yield end


def decode_header(text: bytes) -> Header:
    """Return the header of one acquisition; raise DecodeError and nothing else."""
    # An entity could grow without bound, and in UTF-16 wouldn't be seen.
    if b"<!" in text or b"\0" in text:
        raise DecodeError("data port: a header with <! or NUL")
    try:
        root = ElementTree.fromstring(text)
        data = root.find("data")
        if data is None:
            raise DecodeError("data port: a header without data")
        fields = tuple(_decode_field(e.attrib) for e in root.iterfind("fields/field"))
        row_bytes = int(data.attrib["sample_bytes"])
        header = Header(
            fields=_with_hidden(fields, row_bytes),
            arm_time=data.get("arm_time", "")[:64],
            start_time=data.get("start_time", "")[:64],
            missed=int(data.get("missed", 0)),
            process=data.attrib["process"],
        )
        expected = header.dtype.itemsize
    except (ElementTree.ParseError, KeyError, ValueError, RecursionError) as e:
        raise DecodeError(f"data port: header: {type(e).__name__} {e}"[:200]) from e
    if row_bytes != expected or not fields:
        raise DecodeError(f"data port: rows of {row_bytes} bytes, fields of {expected}")
    if not 0 <= header.missed < MAX_INDEX or data.get("format") != "Framed":
        raise DecodeError(f"data port: {data.attrib}, expected format Framed"[:200])
    return header


def encode_header(header: Header) -> bytes:
    """Return what the box sends when it is armed; the inverse of the decoder."""
    root = ElementTree.Element("header")
    told = {"arm_time": header.arm_time, "start_time": header.start_time}
    data = {key: value for key, value in told.items() if value}
    data |= {"missed": str(header.missed), "process": header.process}
    data |= {"format": "Framed", "sample_bytes": str(header.dtype.itemsize)}
    ElementTree.SubElement(root, "data", data)
    fields = ElementTree.SubElement(root, "fields")
    for field in header.fields:
        about = {"name": field.name, "type": field.type, "capture": field.capture}
        if field.scaling is not None:
            scale, offset, units = field.scaling
            about |= {"scale": f"{scale:.12g}", "offset": f"{offset:.12g}"}
            about["units"] = units
        ElementTree.SubElement(fields, "field", about)
    ElementTree.indent(root, "")
    return ElementTree.tostring(root) + b"\n\n"


def encode_block(data: Buffer) -> bytes:
    """Return packed rows, or any piece of them, as one block.

    Raises ValueError for more than the decoder takes.
    """
    if len(data) + _BLOCK.size > MAX_BLOCK_BYTES:
        raise ValueError(f"block of {len(data)} bytes, at most {MAX_BLOCK_BYTES}")
    return _BLOCK.pack(b"BIN ", len(data) + _BLOCK.size) + bytes(data)


def encode_end(rows: int, reason: str = "Ok") -> bytes:
    """Return the line that ends an acquisition."""
    return f"END {rows} {reason}\n".encode()


def _decode_field(about: dict[str, str]) -> Field:
    if about["type"] not in _TYPES | _SKIPPED:
        raise ValueError(f"field of type {about['type'][:20]!r}")
    scaling = None
    if "scale" in about:
        scale, offset = float(about["scale"]), float(about.get("offset", 0))
        scaling = Scaling(scale, offset, about.get("units", ""))
    return Field(about["name"], about["capture"], about["type"], scaling)


def _with_hidden(fields: tuple[Field, ...], row_bytes: int) -> tuple[Field, ...]:
    """Add the sample count that older boxes send first and don't mention."""
    if row_bytes - Header(fields).dtype.itemsize != 4:
        return fields
    return (Field("PCAP.SAMPLES", "Value", "uint32"), *fields)


def _decode_end(line: bytes) -> End:
    words = line.decode("ascii", "replace").split(" ", 2)
    if len(words) != 3 or not words[1].isdecimal() or int(words[1]) >= MAX_INDEX:
        raise DecodeError(f"data port: {line[:80]!r}, expected END <rows> <reason>")
    return End(int(words[1]), words[2])
