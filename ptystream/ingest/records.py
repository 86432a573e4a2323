"""What the receiver process writes into the ring, and how its parent reads it back.

A frame is a tag, a small msgpack head, and its pixels from the next 64-byte line on;
any other message is a tag, its arrival time and its native wire form.
"""

import math
import struct
import time
from dataclasses import replace

import msgspec
import numpy as np

from ptystream.buffers.ring import Ring
from ptystream.errors import DecodeError
from ptystream.ingest.preprocess import Preprocess
from ptystream.wire import native
from ptystream.wire.envelope import EncodedFrame, Limits
from ptystream.wire.messages import (
    Frame,
    Heartbeat,
    Message,
    Samples,
    ScanEnd,
    ScanStart,
)

COUNTERS = (
    "ready",
    "connected",
    "disconnects",
    "messages",
    "frames",
    "bytes",
    "lost_on_wire",
    "decode_errors",
    "unknown_kinds",
    "ring_full",
    "last_message_ns",
)
"""What the receiver process counts in the ring's first page."""

_TAG = struct.Struct("=II")  # what follows, and how long its head is
_FRAME, _MESSAGE = 1, 2
_LINE = 64


class _FrameHead(msgspec.Struct, array_like=True, frozen=True):
    scan: str
    index: int
    shape: tuple[int, int]
    dtype: str
    start_ns: int
    stop_ns: int
    arrived_s: float


class _MessageHead(msgspec.Struct, array_like=True, frozen=True):
    arrived_s: float
    parts: list[bytes]


_encode_head = msgspec.msgpack.Encoder().encode
_frame_head = msgspec.msgpack.Decoder(_FrameHead).decode
_message_head = msgspec.msgpack.Decoder(_MessageHead).decode


def write_frame(
    ring: Ring, frame: EncodedFrame, preprocess: Preprocess | None = None
) -> bool:
    """Decode a frame straight into the ring; False if the ring is full.

    Raises DecodeError for a payload that is corrupt or smaller than the crop.
    """
    shape, dtype = frame.shape, frame.dtype
    if preprocess is not None:
        shape, dtype = preprocess.form(frame)
    head = _encode_head(
        _FrameHead(
            scan=frame.scan,
            index=frame.index,
            shape=shape,
            dtype=dtype,
            start_ns=frame.start_ns,
            stop_ns=frame.stop_ns,
            arrived_s=time.monotonic(),
        )
    )
    at = _pixels_at(len(head))
    slot = ring.reserve(at + math.prod(shape) * np.dtype(dtype).itemsize)
    if slot is None:
        return False
    counts = np.frombuffer(slot[at:], dtype).reshape(shape)
    if preprocess is None:
        frame.decode_into(counts)
    else:
        preprocess.decode_into(frame, counts)
    _put(slot, _FRAME, head)
    ring.commit()
    return True


def write_message(ring: Ring, message: Message, *, urgent: bool) -> bool:
    """Write any message but a frame; False if the ring is full.

    Raises DecodeError for what the native wire doesn't carry.
    """
    try:
        parts = [bytes(part) for part in native.encode(message, seq=0, sent_ns=0)]
    except ValueError as e:
        raise DecodeError(f"{type(message).__name__} of {message.scan!r}: {e}") from e
    head = _encode_head(_MessageHead(time.monotonic(), parts))
    slot = ring.reserve(_TAG.size + len(head), urgent=urgent)
    if slot is None:
        return False
    _put(slot, _MESSAGE, head)
    ring.commit()
    return True


def read_record(record: memoryview) -> Message:
    """Return the message of a record; a frame's pixels are copied out of the ring."""
    tag, size = _TAG.unpack_from(record)
    head = record[_TAG.size : _TAG.size + size]
    if tag == _MESSAGE:
        return _read_message(_message_head(head))
    fields = _frame_head(head)
    pixels = record[_pixels_at(size) :]
    counts = np.frombuffer(pixels, fields.dtype).reshape(fields.shape).copy()
    times = fields.start_ns, fields.stop_ns, fields.arrived_s
    return Frame(fields.scan, fields.index, counts, *times)


def _read_message(head: _MessageHead) -> Message:
    limits = Limits(max_samples=1 << 30, max_per_frame=1 << 30)  # checked before
    message = native.decode(head.parts, limits=limits).message
    if isinstance(message, Samples):
        return replace(message, arrived_s=head.arrived_s)
    if isinstance(message, ScanStart | ScanEnd | Heartbeat):
        return message
    raise DecodeError(f"a record holds {type(message).__name__}")


def _put(slot: memoryview, tag: int, head: bytes) -> None:
    _TAG.pack_into(slot, 0, tag, len(head))
    slot[_TAG.size : _TAG.size + len(head)] = head


def _pixels_at(head_bytes: int) -> int:
    return -(-(_TAG.size + head_bytes) // _LINE) * _LINE
