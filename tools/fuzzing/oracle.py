"""What must hold of whatever a decoder lets through."""

import numpy as np

from ptystream.buffers.ring import Ring
from ptystream.errors import DecodeError
from ptystream.ingest.encoders import Axis, EncoderTable
from ptystream.ingest.records import read_record, write_frame, write_message
from ptystream.wire.columns import Columns
from ptystream.wire.envelope import EncodedFrame, Envelope, Limits, UnknownKind
from ptystream.wire.headers import MAX_INDEX
from ptystream.wire.messages import Calibration, Frame, Message

LIMITS = Limits(max_frame_bytes=1 << 16, max_samples=1 << 12)
"""Small, so that a claim of more is soon made."""
MOST_OF_ONE = 1 << 13
"""Envelopes that one message may become, at most."""

_AXES = Axis("INENC1.VAL", 1e-9), Axis("INENC2.VAL", 1e-9)


class BrokenError(Exception):
    """A promise that wasn't kept."""


def expect(holds: bool, what: str) -> None:
    """Raise BrokenError unless it holds."""
    if not holds:
        raise BrokenError(what)


class Oracle:
    """Takes envelopes on, as the receiver process and the position reader do."""

    def __init__(self) -> None:
        self._ring = Ring.create(1 << 21, reserve_bytes=1 << 18)

    def take(self, envelope: Envelope) -> None:
        """Raise what the receiver would die of, and BrokenError for what is wrong."""
        message = envelope.message
        if isinstance(message, EncodedFrame):
            self._frame(message)
        elif isinstance(message, Columns):
            _columns(message)
        elif isinstance(message, Calibration):
            most = 4 * LIMITS.max_frame_bytes
            expect(message.array.nbytes <= most, "a mask larger than four frames")
        elif not isinstance(message, UnknownKind):
            self._message(message)

    def _frame(self, frame: EncodedFrame) -> None:
        expect(0 <= frame.index < MAX_INDEX, f"frame {frame.index}")
        expect(0 < frame.nbytes <= LIMITS.max_frame_bytes, f"{frame.nbytes} bytes")
        try:
            write_frame(self._ring, frame)
        except DecodeError:
            return
        found = self._read()
        expect(isinstance(found, Frame), "a frame came back as something else")
        if isinstance(found, Frame):
            rows = frame.decode_rows(0, -(-frame.shape[0] // 2))
            same = np.array_equal(rows, found.counts[: len(rows)])
            expect(same, "rows differ from those of the whole image")

    def _message(self, message: Message) -> None:
        if isinstance(message, Frame):
            raise BrokenError("a frame with its pixels")
        try:
            expect(write_message(self._ring, message, urgent=True), "the ring is full")
        except DecodeError:
            return
        expect(self._read().scan == message.scan, "another scan came back")

    def _read(self) -> Message:
        record = self._ring.peek()
        if record is None:
            raise BrokenError("nothing came through the ring")
        try:
            return read_record(record)
        finally:
            self._ring.release()


def _columns(columns: Columns) -> None:
    lengths = {len(column) for column in columns.columns.values()}
    expect(lengths <= {len(columns)}, f"columns of {lengths} rows")
    expect(len(columns) <= LIMITS.max_samples, f"{len(columns)} rows")
    expect(0 <= columns.first < MAX_INDEX, f"first row {columns.first}")
    with np.errstate(all="ignore"):
        try:
            EncoderTable(*_AXES).track(columns)
        except DecodeError:
            return
