"""Messages to any wire, by the protocol's name: what a file is replayed in."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Final

import numpy as np

from ptystream.errors import ConfigError
from ptystream.tape.format import Part, Record
from ptystream.wire import native, panda
from ptystream.wire.areadetector import encode_array
from ptystream.wire.columns import Columns, Scaling
from ptystream.wire.dectris2_encode import Dectris2Encoder
from ptystream.wire.dectris_encode import DectrisEncoder
from ptystream.wire.envelope import EncodedFrame, encode_frame
from ptystream.wire.messages import Frame, Message, Samples, ScanEnd, ScanStart
from ptystream.wire.panda_json import PandaJsonEncoder

Encode = Callable[[Message], Iterable[Sequence[Part]]]
"""One stream's encoder, which may keep state; a message may take several."""
Y_COLUMN: Final = "INENC1.VAL"
X_COLUMN: Final = "INENC2.VAL"
"""Encoders of a made-up PandABox; they count metres."""


class FileTape:
    """A file's messages as records, so that it is replayed as a tape is.

    ``messages`` makes them anew for each pass, for a scan of a name of its own. Frames
    are ``rate_hz`` a second; what isn't a frame comes with the next one.
    """

    def __init__(
        self,
        messages: Callable[[], Iterable[tuple[str, Message]]],
        wires: Mapping[str, str],
        rate_hz: float,
    ) -> None:
        if not rate_hz > 0:
            raise ConfigError(f"rate {rate_hz}: expected more than 0 frames a second")
        for stream, protocol in wires.items():
            if protocol not in ENCODERS[stream]:
                raise ConfigError(
                    f"{stream} as {protocol!r}: expected {', '.join(ENCODERS[stream])}"
                )
        self._messages, self._wires, self._rate_hz = messages, dict(wires), rate_hz

    def __iter__(self) -> Iterator[Record]:
        encoders = {name: ENCODERS[name][wire]() for name, wire in self._wires.items()}
        frames = 0
        for stream, message in self._messages():
            due_ns = round(frames / self._rate_hz * 1e9)
            frames += isinstance(message, Frame)
            for parts in encoders[stream](message):
                yield Record(stream, tuple(parts), due_ns, time.time_ns())


def _native() -> Encode:
    seq = -1

    def encode(message: Message) -> Iterator[Sequence[Part]]:
        nonlocal seq
        seq = 0 if isinstance(message, ScanStart) else seq + 1
        yield native.encode(message, seq=seq, sent_ns=time.time_ns(), encoding="bslz4")

    return encode


def _dectris(make: Callable[[], DectrisEncoder | Dectris2Encoder]) -> Encode:
    encoder = make()

    def encode(message: Message) -> Iterator[Sequence[Part]]:
        if isinstance(message, ScanStart | Frame | ScanEnd):
            yield encoder.encode(message, "bslz4")

    return encode


def _array() -> Encode:
    attributes: dict[str, object] = {}

    def encode(message: Message) -> Iterator[Sequence[Part]]:
        if isinstance(message, ScanStart):
            attributes["NumImages"] = message.frames_expected
        elif isinstance(message, Frame):
            frame: EncodedFrame = encode_frame(message, "bslz4")
            yield encode_array(frame, attributes=attributes)

    return encode


def _panda_json() -> Encode:
    encoder = PandaJsonEncoder()

    def encode(message: Message) -> Iterator[Sequence[Part]]:
        if isinstance(message, ScanStart):
            yield encoder.start(datetime.now(UTC).isoformat())
        elif isinstance(message, Samples):
            yield encoder.rows(_columns(message))
        elif isinstance(message, ScanEnd):
            yield encoder.end()

    return encode


def _panda() -> Encode:
    metres = Scaling(1.0, 0.0, "m")
    fields = [panda.Field(n, "Value", "double", metres) for n in (Y_COLUMN, X_COLUMN)]
    rows = 0

    def encode(message: Message) -> Iterator[Sequence[Part]]:
        nonlocal rows
        if isinstance(message, ScanStart):
            armed = datetime.now(UTC).isoformat()
            rows = 0
            yield [panda.encode_header(panda.Header(tuple(fields), arm_time=armed))]
        elif isinstance(message, Samples):
            rows += len(message.position_m)
            packed = np.ascontiguousarray(message.position_m, "<f8").tobytes()
            yield [panda.encode_block(packed)]
        elif isinstance(message, ScanEnd):
            yield [panda.encode_end(rows)]

    return encode


def _columns(samples: Samples) -> Columns:
    y, x = samples.position_m.T
    columns = {f"{Y_COLUMN}.Value": y, f"{X_COLUMN}.Value": x}
    return Columns(samples.scan, samples.first, columns)


ENCODERS: Final[Mapping[str, Mapping[str, Callable[[], Encode]]]] = {
    "det": {
        "ptys": _native,
        "dectris": partial(_dectris, DectrisEncoder),
        "dectris2": partial(_dectris, Dectris2Encoder),
        "array": _array,
    },
    "pos": {"ptys": _native, "panda": _panda, "panda-json": _panda_json},
}
"""A new wire is one more entry here."""
