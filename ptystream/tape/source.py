"""Recordings and files as messages, in the order in which a live scan gives them."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final, Literal, Protocol

import numpy as np

from ptystream.errors import DecodeError
from ptystream.tape.format import Part, Record
from ptystream.tape.streams import Decode
from ptystream.wire import native
from ptystream.wire.columns import Columns
from ptystream.wire.envelope import EncodedFrame, Envelope, Limits, UnknownKind
from ptystream.wire.messages import (
    Calibration,
    Frame,
    Message,
    Samples,
    ScanEnd,
    ScanStart,
)

TAPE_LIMITS: Final = Limits(max_frame_bytes=256 << 20)
"""A tape is our own recording: larger frames than the live default."""
Encoded = Message | Calibration | Columns | EncodedFrame
"""What a wire's message may hold, before pixels and encoder counts are decoded."""
Decoders = Callable[[], Mapping[str, Decode]]
"""Makes the decoders of a tape's streams, by name."""
SAMPLES_AT_ONCE = 64
"""Positions of a file that precede their frames: pairing never waits for more."""


def native_messages(parts: Sequence[Part]) -> list[Envelope]:
    """Decode a message of the native wire, which needs no state."""
    return [native.decode(parts, limits=TAPE_LIMITS)]


class TapeMessages:
    """Iterates over (stream's name on the tape, message), frames decompressed.

    ``decoders`` makes fresh ones for each pass, by the stream's name (none: all is
    the native wire's); a stream without one is counted in ``unread``. Frames and
    samples carry the recorded arrival time. What doesn't decode is left out and counted
    in ``bad``, kinds from the future in ``unknown``; all count the last iteration.
    """

    def __init__(
        self, tape: Iterable[Record], decoders: Decoders | None = None
    ) -> None:
        self.bad = self.unknown = self.unread = 0
        self._tape = tape
        self._decoders = decoders

    def __iter__(self) -> Iterator[tuple[str, Message | Calibration | Columns]]:
        for record, message in self.encoded():
            try:
                yield record.stream, decoded(message, record)
            except DecodeError:
                self.bad += 1

    def encoded(self) -> Iterator[tuple[Record, Encoded]]:
        """Yield what each record holds, pixels as compressed as they came."""
        self.bad = self.unknown = self.unread = 0
        by_stream = self._decoders() if self._decoders else None
        for record in self._tape:
            decode = native_messages
            if by_stream is not None:
                decode = by_stream.get(record.stream)
            if decode is None:
                self.unread += 1
                continue
            try:
                for envelope in decode(record.parts):
                    if isinstance(envelope.message, UnknownKind):
                        self.unknown += 1
                    else:
                        yield record, envelope.message
            except DecodeError:
                self.bad += 1


def decoded(message: Encoded, record: Record) -> Message | Calibration | Columns:
    """Return the message with its pixels and its arrival time; or raise DecodeError."""
    arrived_s = record.mono_ns / 1e9
    if isinstance(message, EncodedFrame):
        return message.decode(arrived_s=arrived_s)
    if isinstance(message, Samples):
        return replace(message, arrived_s=arrived_s)
    return message


class FileScan(Protocol):
    """A scan in a file, opened: its patterns and where they were taken.

    ``positions_m`` is ``[n, 2]`` (y, x); ``mask`` and ``illumination`` are those of
    ``CxiScan``, None where the file has none.
    """

    positions_m: np.ndarray
    mask: np.ndarray | None
    illumination: np.ndarray | None

    def __len__(self) -> int:
        """Return how many exposures there are."""
        ...

    def start(self, scan: str) -> ScanStart:
        """Return the detector's start message of this scan under this uid."""
        ...

    def frames(self, scan: str) -> Iterator[Frame]:
        """Yield every pattern, by index; FileFormatError if one isn't counts."""
        ...


def file_messages(
    file: FileScan, scan: str, half: Literal["even", "odd"] | None = None
) -> Iterator[tuple[str, Message]]:
    """Yield an open file as (stream, message): starts, positions and frames, ends.

    ``half`` leaves out every second frame, by its index.
    """
    yield "det", file.start(scan)
    yield "pos", ScanStart(scan=scan, stream="pos", frames_expected=len(file))
    sent = 0
    for frame in file.frames(scan):
        if frame.index % SAMPLES_AT_ONCE == 0:
            yield "pos", _samples(file, frame)
        if half is None or frame.index % 2 == (half == "odd"):
            yield "det", frame
            sent += 1
    yield "pos", ScanEnd(scan, "pos", "complete", sent=len(file))
    yield "det", ScanEnd(scan, "det", "complete", sent=sent)


def _samples(file: FileScan, frame: Frame) -> Samples:
    rows = file.positions_m[frame.index : frame.index + SAMPLES_AT_ONCE]
    return Samples(frame.scan, first=frame.index, per_frame=1, position_m=rows)
