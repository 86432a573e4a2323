"""Recordings and files as messages, in the order in which a live scan gives them."""

from collections.abc import Iterable, Iterator
from typing import Final

from ptystream.errors import DecodeError
from ptystream.tape.cxi import CxiScan
from ptystream.tape.format import Record
from ptystream.wire import native
from ptystream.wire.envelope import EncodedFrame, Limits, UnknownKind
from ptystream.wire.messages import Frame, Message, Samples, ScanEnd, ScanStart

TAPE_LIMITS: Final = Limits(max_frame_bytes=256 << 20)
"""A tape is our own recording: larger frames than the live default."""
SAMPLES_AT_ONCE = 64
"""Positions of a file that precede their frames: pairing never waits for more."""


class TapeMessages:
    """Iterates over (stream's name on the tape, message), frames decompressed.

    Frames carry the recorded arrival time. What doesn't decode is left out and counted
    in ``bad``, kinds from the future in ``unknown``; both count the last iteration.
    """

    def __init__(self, tape: Iterable[Record], limits: Limits = TAPE_LIMITS) -> None:
        self.bad = 0
        self.unknown = 0
        self._tape = tape
        self._limits = limits

    def __iter__(self) -> Iterator[tuple[str, Message]]:
        self.bad = self.unknown = 0
        for record in self._tape:
            try:
                message = self._decode(record)
            except DecodeError:
                self.bad += 1
                continue
            if message is None:
                self.unknown += 1
            else:
                yield record.stream, message

    def _decode(self, record: Record) -> Message | None:
        message = native.decode(record.parts, limits=self._limits).message
        if isinstance(message, EncodedFrame):
            return message.decode(arrived_s=record.mono_ns / 1e9)
        return None if isinstance(message, UnknownKind) else message


def cxi_messages(cxi: CxiScan, scan: str) -> Iterator[tuple[str, Message]]:
    """Yield an open file as (stream, message): starts, positions and frames, ends."""
    yield "det", cxi.start(scan)
    yield "pos", ScanStart(scan=scan, stream="pos", frames_expected=len(cxi))
    for frame in cxi.frames(scan):
        if frame.index % SAMPLES_AT_ONCE == 0:
            yield "pos", _samples(cxi, frame)
        yield "det", frame
    for stream in "pos", "det":
        yield stream, ScanEnd(scan, stream, "complete", sent=len(cxi))


def _samples(cxi: CxiScan, frame: Frame) -> Samples:
    rows = cxi.positions_m[frame.index : frame.index + SAMPLES_AT_ONCE]
    return Samples(frame.scan, first=frame.index, per_frame=1, position_m=rows)
