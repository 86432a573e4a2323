"""What each record of a tape is, whatever its wire: a start, a frame, an end."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from ptystream.errors import DecodeError
from ptystream.tape.format import Record
from ptystream.tape.source import Decoders, native_messages
from ptystream.tape.streams import Decode
from ptystream.wire.envelope import EncodedFrame, Envelope
from ptystream.wire.messages import Samples, ScanEnd, ScanStart

Kind = Literal["start", "end", "again", "frame", "samples", "other"]
"""``again`` is a start repeated for late joiners; ``other`` also what doesn't decode.
A record that holds several messages is of the first kind in this order."""
_ORDER: tuple[Kind, ...] = ("start", "end", "again", "frame", "samples", "other")


@dataclass(frozen=True, slots=True)
class Marked:
    """A record and what it is; ``scan`` is "" where it names none, ``index`` -1.

    ``solid`` is set for a chunk of a plain connection, where nothing is lost.
    """

    record: Record
    kind: Kind
    scan: str = ""
    index: int = -1
    solid: bool = False

    def as_record(self, record: Record) -> "Marked":
        """Return the same mark of a changed record."""
        return replace(self, record=record)


def marked(
    tape: Iterable[Record], decoders: Decoders | None = None
) -> Iterator[Marked]:
    """Yield every record with its mark; without decoders all is the native wire's."""
    by_stream = decoders() if decoders else {}
    for record in tape:
        yield _mark(record, by_stream.get(record.stream, native_messages))


def _mark(record: Record, decode: Decode) -> Marked:
    best = Marked(record, "other")
    try:
        for envelope in decode(record.parts):
            mark = _of(record, envelope)
            if _ORDER.index(mark.kind) < _ORDER.index(best.kind) or not best.scan:
                best = mark
    except DecodeError:
        pass  # what was decoded before it still counts
    return best


def _of(record: Record, envelope: Envelope) -> Marked:
    message = envelope.message
    if isinstance(message, ScanStart):
        return Marked(record, "again" if message.again else "start", message.scan)
    if isinstance(message, ScanEnd):
        return Marked(record, "end", message.scan)
    if isinstance(message, EncodedFrame):
        return Marked(record, "frame", message.scan, message.index)
    if isinstance(message, Samples):
        return Marked(record, "samples", message.scan)
    return Marked(record, "other", envelope.run)
