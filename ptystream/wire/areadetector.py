"""``array-1.0``: what areaDetector's ZeroMQ plugin and PSI's detectors publish.

Two parts: a JSON header and the pixels. The wire knows no scans: one begins with the
first array, or with one whose ``frame`` begins again, and ends at the attribute
``NumImages`` or before the next. Geometry isn't told either.
"""

import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from msgspec import Meta

from ptystream.errors import DecodeError
from ptystream.wire import bslz4, codecs
from ptystream.wire.codecs import Buffer
from ptystream.wire.envelope import EncodedFrame, Envelope, Limits
from ptystream.wire.headers import MAX_INDEX, is_whole
from ptystream.wire.messages import ScanEnd, ScanStart

HTYPE = "array-1.0"
MAX_HEADER_BYTES = 1 << 16
SCAN_ATTRIBUTES = ("ptystream_scan", "ScanUID", "scan_uid", "uid")
"""Attributes that name the scan, the first of them that an array has."""

_ENCODINGS = {"": "raw", "none": "raw", "raw": "raw", "lz4": "lz4", "bslz4": "bslz4"}
_TYPES = {
    "uint8": "|u1",
    "uint16": "<u2",
    "uint32": "<u4",
    "int8": "|u1",
    "int16": "<u2",
    "int32": "<u4",
}
_NAMES = {"|u1": "uint8", "<u2": "uint16", "<u4": "uint32"}
_Side = Annotated[int, Meta(ge=1, lt=1 << 20)]


class _Header(msgspec.Struct):
    """The spellings of ADZMQ and of PSI; keys that aren't here are ignored."""

    htype: Literal["array-1.0"]
    shape: Annotated[list[_Side], Meta(min_length=2, max_length=4)]
    type: str
    frame: Annotated[int, Meta(ge=0, lt=MAX_INDEX)]
    time_stamp: float | None = msgspec.field(default=None, name="timeStamp")
    timestamp: float | None = None
    encoding: str | None = None
    compression: str | None = None
    endianness: str | None = None
    endianess: str | None = None
    source: str | None = None
    ndattr: dict[str, Any] = {}

    @property
    def time_ns(self) -> int:
        """Return when it was taken, 0 if it doesn't say."""
        stamp = self.time_stamp or self.timestamp or 0.0
        return int(stamp * 1e9) if 0 < stamp < 1e9 * 4 else 0

    @property
    def image(self) -> tuple[int, int]:
        """Return rows and columns; DecodeError if there is more than one image."""
        *stack, rows, columns = self.shape
        if math.prod(stack) != 1:
            raise DecodeError(f"array of shape {self.shape}, expected one image")
        return rows, columns

    @property
    def expected(self) -> int | None:
        """Return how many images the acquisition has, None if it doesn't end."""
        number = self.ndattr.get("NumImages")
        return number if is_whole(number) and number > 1 else None

    @property
    def scan(self) -> str | None:
        """Return what names the scan."""
        found = (self.ndattr.get(name) for name in SCAN_ATTRIBUTES)
        return next((str(value)[:128] for value in found if value), None)


_header = msgspec.json.Decoder(_Header).decode


class ArrayDecoder:
    """Arrays to frames, with the starts and ends that the wire leaves out.

    Scans are called by an attribute of ``SCAN_ATTRIBUTES``, else ``<source>-<n>``.
    Arrays may overtake each other: an older one, by its time stamp, begins no scan.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._scan = ""
        self._named: str | None = None
        self._number = 0
        self._highest = 0
        self._time_ns = 0
        self._ended = False

    def topics(self, streams: Sequence[str]) -> Sequence[bytes]:
        """Return the empty prefix: there are no topics."""
        return [b""]

    def decode(self, parts: Sequence[Buffer]) -> Sequence[Envelope]:
        """Decode one array; raise DecodeError and nothing else."""
        if len(parts) != 2 or len(parts[0]) > MAX_HEADER_BYTES:
            raise DecodeError(f"{len(parts)} parts, expected a header and an array")
        header = _read(parts[0], self._limits.first_frame)
        # Checked before anything begins: a bad array opens no scan.
        dtype, encoding, payload = _pixels(header, parts[1], self._limits)
        messages: list[ScanStart | EncodedFrame | ScanEnd] = []
        if self._begins(header):
            messages += self._begin(header, dtype)
        index, time_ns = header.frame, header.time_ns
        frame = EncodedFrame(
            self._scan, index, header.image, dtype, encoding, payload, time_ns, time_ns
        )
        messages.append(frame)
        if index >= self._highest:
            self._highest, self._time_ns = index, time_ns
        if header.expected == index + 1 and not self._ended:
            messages.append(self._end(index + 1))
        return [Envelope(m, "det", self._scan, None, 0) for m in messages]

    def _begins(self, header: _Header) -> bool:
        """Tell whether an array is the first of another scan."""
        if not self._scan or header.scan != self._named:
            return True
        if header.time_ns and self._time_ns:
            newer = header.time_ns > self._time_ns
            return newer and header.frame <= self._highest
        return header.frame < self._highest

    def _begin(self, header: _Header, dtype: str) -> list[ScanStart | ScanEnd]:
        done: list[ScanStart | ScanEnd] = []
        if self._scan and not self._ended:
            done.append(self._end(self._highest + 1))
        self._number += 1
        self._named = header.scan
        self._scan = self._named or f"{header.source or 'array'}-{self._number}"[:128]
        self._highest, self._time_ns, self._ended = 0, 0, False
        meta = {"source": header.source} if header.source else {}
        expected = header.expected
        if expected is not None and header.frame >= expected:
            expected = None  # a counter that isn't set back counts no images
        start = ScanStart(
            scan=self._scan,
            stream="det",
            shape=header.image,
            dtype=dtype,
            frames_expected=expected,
            again=header.frame > 0,
            meta=meta,
        )
        return [*done, start]

    def _end(self, sent: int) -> ScanEnd:
        self._ended = True
        return ScanEnd(self._scan, "det", "complete", sent)


def encode_array(
    frame: EncodedFrame,
    *,
    source: str | None = None,
    attributes: dict[str, Any] | None = None,
    block_header: bool = False,
) -> list[Buffer]:
    """Return the two parts of an array as ADZMQ sends them; the decoder's inverse.

    ``block_header`` keeps the 12 bytes before bslz4 blocks, as PSI's senders do.
    """
    bare = frame.encoding == "bslz4" and not block_header
    header = {
        "htype": HTYPE,
        "type": _NAMES[frame.dtype],
        "shape": frame.shape,
        "frame": frame.index,
        "timeStamp": frame.start_ns / 1e9,
        "encoding": "" if frame.encoding == "raw" else frame.encoding,
        "ndattr": attributes or {},
        **({"source": source} if source else {}),
    }
    payload = frame.payload
    if bare:
        payload = memoryview(payload)[bslz4.HEADER.size :]
    return [msgspec.json.encode(header), payload]


def _read(text: Buffer, first_frame: int) -> _Header:
    """Return the header, its frames counted from 0."""
    try:
        header = _header(text)
    except (ValueError, RecursionError) as e:
        raise DecodeError(f"array header: {e}"[:300]) from e
    if header.frame < first_frame:
        raise DecodeError(f"array {header.frame}, detector.first_frame {first_frame}")
    header.frame -= first_frame
    return header


def _pixels(
    header: _Header, payload: Buffer, limits: Limits
) -> tuple[str, str, Buffer]:
    """Return dtype, encoding and payload as our codecs take them.

    Signed pixels are taken as unsigned: flags of -1 and -2 become 2^n-1 and 2^n-2.
    """
    dtype = _TYPES.get(header.type)
    name = (header.encoding or header.compression or "").lower()
    encoding = _ENCODINGS.get(name)
    if dtype is None or encoding is None:
        raise DecodeError(
            f"array of {header.type[:20]!r}, encoding {name[:20]!r}: expected one of "
            f"{list(_TYPES)} and {list(_ENCODINGS)}"
        )
    itemsize = np.dtype(dtype).itemsize
    nbytes = math.prod(header.image) * itemsize
    if nbytes > limits.max_frame_bytes:
        raise DecodeError(f"array of {nbytes} bytes, at most {limits.max_frame_bytes}")
    if encoding == "raw" and len(payload) != nbytes:
        raise DecodeError(f"{len(payload)} bytes of pixels, expected {nbytes}")
    if encoding == "bslz4":
        payload = _without_garbage(payload, nbytes, itemsize)
        payload = bslz4.with_header(payload, nbytes)
    if _big_endian(header) and itemsize > 1:
        counts = np.empty(header.image, dtype)
        codecs.decode_into(payload, encoding, counts)
        return dtype, "raw", counts.byteswap().data.cast("B")
    return dtype, encoding, payload


def _big_endian(header: _Header) -> bool:
    order = header.endianness or header.endianess or "little"
    if order not in ("little", "big"):
        raise DecodeError(f"endianness {order[:20]!r}, expected little or big")
    return order == "big"


def _without_garbage(payload: Buffer, nbytes: int, itemsize: int) -> Buffer:
    """Cut off what follows bare bslz4 blocks.

    ADZMQ sends as many bytes as the pixels would have uncompressed.
    """
    blocks = memoryview(payload).cast("B")
    if len(blocks) != nbytes or int.from_bytes(blocks[:8], "big") == nbytes:
        return payload
    tail = nbytes // itemsize % 8 * itemsize  # left as they are, after the blocks
    at = 0
    for _ in range(-(-(nbytes - tail) // bslz4.BLOCK_BYTES)):
        at += 4 + int.from_bytes(blocks[at : at + 4], "big")
        if at > nbytes:
            break
    return blocks[: at + tail]
