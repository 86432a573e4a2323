"""karabo-bridge 2.2: the trains of the European XFEL, over REQ, SUB or PULL.

A message is pairs of parts, the first of each a msgpack header: ``content`` msgpack
begins a source, with its train number, ``content`` array is one of that source's
arrays. An image array is ``[y, x]``, in files ``[pulses, y, x]``, or online
``[x, y, pulses]``; there are as many pulses as ``image.cellId`` has entries.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

import msgspec
import numpy as np
from msgspec import Meta

from ptystream.errors import DecodeError
from ptystream.wire import codecs
from ptystream.wire.codecs import Buffer
from ptystream.wire.envelope import EncodedFrame, Envelope, Limits
from ptystream.wire.headers import MAX_INDEX, is_whole
from ptystream.wire.messages import ScanEnd, ScanStart

MAX_HEADER_BYTES = 1 << 16
MAX_PARTS = 4096
MAX_PULSES = 4096
"""Of a train, which has at most 2700: each becomes a message of some 700 bytes."""
_TYPES = {"uint8": "|u1", "uint16": "<u2", "uint32": "<u4"}
_NAMES = {"|u1": "uint8", "<u2": "uint16", "<u4": "uint32"}
_PULSES = ("image.cellId", "image.pulseId")
_Side = Annotated[int, Meta(ge=1, lt=1 << 20)]


class _Source(msgspec.Struct, tag_field="content", tag="msgpack"):
    source: str
    metadata: dict[str, Any] = {}


class _Array(msgspec.Struct, tag_field="content", tag="array"):
    source: str
    path: str
    dtype: str
    shape: Annotated[list[_Side], Meta(min_length=1, max_length=5)]


_header = msgspec.msgpack.Decoder(_Source | _Array).decode


@dataclass(frozen=True, slots=True)
class _Train:
    """One message: the train's number and what its image source sent."""

    number: int
    source: str
    image: _Array
    payload: Buffer
    pulses: int | None


class KaraboDecoder:
    """Trains to frames, with the starts and ends that the wire leaves out.

    The first image array of the message is taken, or that of the source that the
    limits' ``channel`` names.
    A frame's index is its train after the first one seen, times the pulses of a train,
    plus its pulse; a train number that goes back begins another scan.
    """

    request: Final = b"next"

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._source = limits.channel
        self._scan = ""
        self._number = 0
        self._first = self._last = 0
        self._pulses = 1

    def topics(self, streams: Sequence[str]) -> Sequence[bytes]:
        """Return the empty prefix: there are no topics."""
        return [b""]

    def decode(self, parts: Sequence[Buffer]) -> Sequence[Envelope]:
        """Decode one train; raise DecodeError and nothing else."""
        if len(parts) % 2 or not 0 < len(parts) <= MAX_PARTS:
            raise DecodeError(f"{len(parts)} parts, expected pairs of protocol 2.2")
        train = self._train(parts)
        dtype, stack = _pixels(train, self._limits)
        shape = (stack.shape[1], stack.shape[2])
        messages: list[ScanStart | EncodedFrame | ScanEnd] = []
        if not self._scan or train.number < self._last or len(stack) != self._pulses:
            messages += self._begin(train, shape, dtype, len(stack))
        first = (train.number - self._first) * len(stack)
        if first + len(stack) > MAX_INDEX:
            raise DecodeError(f"train {train.number}, the scan's first {self._first}")
        self._last = max(self._last, train.number)
        for pulse, image in enumerate(stack):
            payload = codecs.encode(image, "raw")
            index = first + pulse
            frame = EncodedFrame(self._scan, index, shape, dtype, "raw", payload)
            messages.append(frame)
        # Trains are numbered: what is left out is a loss, also of one that asks late.
        seq = train.number - self._first
        *begun, last = messages
        envelopes = [Envelope(m, "det", self._scan, None, 0) for m in begun]
        return [*envelopes, Envelope(last, "det", self._scan, seq, 0)]

    def _train(self, parts: Sequence[Buffer]) -> _Train:
        number: int | None = None
        image: tuple[_Array, Buffer] | None = None
        pulses: int | None = None
        for header, payload in _pairs(parts):
            if isinstance(header, _Source):
                number = _number(header, number)
            elif self._source in (None, header.source):
                if header.path in _PULSES and len(header.shape) == 1:
                    pulses = header.shape[0]
                elif len(header.shape) > 1 and image is None:
                    image = header, payload
        if number is None or image is None:
            raise DecodeError("a train without a number, or without an image array")
        return _Train(number, image[0].source, *image, pulses)

    def _begin(
        self, train: _Train, shape: tuple[int, int], dtype: str, pulses: int
    ) -> list[ScanStart | ScanEnd]:
        done: list[ScanStart | ScanEnd] = []
        if self._scan:
            sent = (self._last - self._first + 1) * self._pulses
            done.append(ScanEnd(self._scan, "det", "complete", sent))
        self._number += 1
        self._scan = f"karabo-{train.number}-{self._number}"
        self._first = self._last = train.number
        self._pulses = pulses
        meta = {"source": train.source, "train": train.number}
        return [*done, ScanStart(self._scan, "det", shape, dtype, meta=meta)]


def encode_train(
    number: int,
    source: str,
    images: np.ndarray,
    *,
    timestamp: str = "0.0",
) -> list[Buffer]:
    """Return the parts of a train of ``[pulses, y, x]`` images, as files have them."""
    pack = msgspec.msgpack.encode
    metadata = {"source": source, "timestamp.tid": number, "timestamp": timestamp}
    begin = {"source": source, "content": "msgpack", "metadata": metadata}
    parts: list[Buffer] = [pack(begin), pack({})]
    cells = np.arange(len(images), dtype="<u2")
    for path, array in ("image.cellId", cells), ("image.data", images):
        about = {"path": path, "dtype": _NAMES[array.dtype.str], "shape": array.shape}
        parts.append(pack({"source": source, "content": "array", **about}))
        parts.append(codecs.encode(array, "raw"))
    return parts


def _pairs(parts: Sequence[Buffer]) -> Iterator[tuple[_Source | _Array, Buffer]]:
    for head, payload in zip(parts[::2], parts[1::2], strict=True):
        if len(head) > MAX_HEADER_BYTES:
            raise DecodeError(f"header of {len(head)} bytes")
        try:
            yield _header(head), payload
        except (ValueError, RecursionError) as e:
            raise DecodeError(f"train: {e}"[:300]) from e


def _number(header: _Source, known: int | None) -> int | None:
    """Return the train's number; all sources of a message should have the same."""
    number = header.metadata.get("timestamp.tid")
    if number is None:
        return known
    if not is_whole(number):
        raise DecodeError(f"train number {number!r}"[:80])
    if known not in (None, number):
        raise DecodeError(f"sources of trains {known} and {number} in one message")
    return number


def _pixels(train: _Train, limits: Limits) -> tuple[str, np.ndarray]:
    """Return the dtype and the images ``[pulses, y, x]``, a view if they lie so."""
    image = train.image
    dtype = _TYPES.get(image.dtype)
    if dtype is None:
        raise DecodeError(
            f"{image.path[:60]!r} of {image.dtype[:20]!r}: expected {list(_TYPES)}, "
            f"so raw counts"
        )
    nbytes = math.prod(image.shape) * np.dtype(dtype).itemsize
    if len(train.payload) != nbytes:
        raise DecodeError(f"{len(train.payload)} bytes of pixels, expected {nbytes}")
    array = np.frombuffer(train.payload, dtype).reshape(image.shape)
    stack = _pulses_first(array, train.pulses)
    if len(stack) > MAX_PULSES:
        raise DecodeError(f"{len(stack)} pulses of a train, at most {MAX_PULSES}")
    size = stack[0].nbytes
    if size > limits.max_frame_bytes:
        raise DecodeError(f"image of {size} bytes, at most {limits.max_frame_bytes}")
    return dtype, stack


def _pulses_first(array: np.ndarray, pulses: int | None) -> np.ndarray:
    if array.ndim == 2:
        return array[np.newaxis]
    if array.ndim == 3 and pulses in (None, array.shape[0]):
        return array
    if array.ndim == 3 and pulses == array.shape[2]:
        return array.T
    raise DecodeError(
        f"images of shape {array.shape} with {pulses} pulses: expected [y, x], "
        f"[pulses, y, x] or [x, y, pulses]"
    )
