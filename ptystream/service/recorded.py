"""What joins a tape to the wires: taps, decoders, and scans as live ones are joined."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ptystream.errors import ConfigError, DecodeError
from ptystream.ingest.endpoint import Endpoint
from ptystream.ingest.preprocess import Passed, Preprocess
from ptystream.ingest.protocols import PROTOCOLS, Decoder
from ptystream.ingest.sampled import SampledPositions
from ptystream.ingest.scans import Event, ScanTracker, TrackerLimits
from ptystream.settings import DetectorSettings
from ptystream.tape.format import Part, Record
from ptystream.tape.source import TAPE_LIMITS, Decoders, Encoded, TapeMessages
from ptystream.tape.streams import Decode, streams_of
from ptystream.tape.taps import Tap
from ptystream.wire.columns import Columns
from ptystream.wire.curve import ClientKeys
from ptystream.wire.envelope import EncodedFrame, Envelope, Limits
from ptystream.wire.messages import Calibration, Frame, Message, Samples

NO_HURRY = TrackerLimits(max_frames=1 << 16, pending_frames=1 << 14)
"""What is on a tape won't be lost: frames wait for positions as memory allows."""
AsFrame = Callable[[EncodedFrame, Record], Frame]


def tap_of(stream: str, endpoint: Endpoint, keys: ClientKeys | None = None) -> Tap:
    """Return what records an endpoint, all its topics, under this stream's name."""
    return Tap(
        stream,
        endpoint.address,
        endpoint.pattern,
        protocol=endpoint.protocol,
        request=request_of(endpoint.protocol),
        decode=_decode(endpoint.protocol, TAPE_LIMITS),
        secure=None if keys is None else keys.apply,
    )


def request_of(protocol: str) -> bytes:
    """Return what a protocol's receivers say: once, or for each message by REQ."""
    return getattr(PROTOCOLS[protocol].decoder(TAPE_LIMITS), "request", None) or b""


def limits_of(settings: DetectorSettings) -> Limits:
    """Return what a tape's decoders are told of the detector."""
    return replace(
        TAPE_LIMITS, channel=settings.channel, first_frame=settings.first_frame
    )


def decoders_of(header: Mapping[str, Any], limits: Limits = TAPE_LIMITS) -> Decoders:
    """Return what makes the decoders of a tape with this header.

    Raises:
        ConfigError: a stream's protocol is none that this version knows.
    """
    infos = streams_of(header)
    for info in infos.values():
        if info.protocol not in PROTOCOLS:
            raise ConfigError(
                f"tape's stream {info.stream}: protocol {info.protocol!r}: "
                f"expected one of {', '.join(PROTOCOLS)}"
            )
    return lambda: {n: _decode(info.protocol, limits) for n, info in infos.items()}


def names_scans(header: Mapping[str, Any]) -> bool:
    """Tell whether all streams of a tape call a scan by the same name."""
    infos = streams_of(header).values()
    return all(PROTOCOLS[info.protocol].names_scans for info in infos)


class RecordedScans:
    """Joins a tape's messages to scans, as the live service does.

    ``as_frame`` gives each frame's pixels, or something in their place; what it can't
    decode is counted in ``bad``. Positions of encoder boxes become metres by
    ``sampled``, patterns are treated by ``preprocess`` as on their way in. Where the
    streams name their scans time stands still, else it is the tape's: it tells which
    series ran together. With ``only`` the other scans are left out there, unread:
    time that stands still would never end one that the tape has in part.
    """

    def __init__(
        self,
        records: Iterable[Record],
        header: Mapping[str, Any],
        *,
        as_frame: AsFrame,
        sampled: SampledPositions | None = None,
        preprocess: Preprocess | None = None,
        limits: Limits = TAPE_LIMITS,
        only: str | None = None,
        lag: int = 0,
    ) -> None:
        self.messages = TapeMessages(records, decoders_of(header, limits))
        self.bad = 0
        self._as_frame = as_frame
        self._named = names_scans(header)
        self._only = only if self._named else None
        self._limits = replace(NO_HURRY, lag=lag)
        self._sampled = sampled or SampledPositions()
        self._preprocess = preprocess

    def __iter__(self) -> Iterator[Event | Calibration]:
        """Yield what happened, and the detector's calibrations in between."""
        tracker = ScanTracker(self._limits, named=self._named)
        now_s, record = 0.0, None
        for record, message in self.messages.encoded():
            if self._only not in (None, message.scan):
                continue
            if isinstance(message, Calibration):
                yield message
            now_s = 0.0 if self._named else record.mono_ns / 1e9
            for ready in self._ready(record, message):
                yield from tracker.feed(ready, now_s)
        if record is not None and self._preprocess is not None:
            for late in self._preprocess.tick(math.inf):
                for ready in self._detector(record, late):
                    yield from tracker.feed(ready, now_s)
        yield from tracker.stop()

    def _ready(self, record: Record, message: Encoded) -> Iterator[Message]:
        """Yield what can be joined by now: the message, or positions that waited."""
        if record.stream != "pos":
            for treated in self._treated(record, message):
                yield from self._detector(record, treated)
        elif not isinstance(message, EncodedFrame | Calibration):
            yield from self._sampled.take(message, record.mono_ns / 1e9)
        yield from self._sampled.release()

    def _treated(self, record: Record, message: Encoded) -> Sequence[Passed]:
        """Return what pre-processing lets through, if there is any."""
        if isinstance(message, Columns | Samples):
            return []
        if self._preprocess is not None:
            return self._preprocess.take(message, record.mono_ns / 1e9)
        return [] if isinstance(message, Calibration) else [message]

    def _detector(self, record: Record, message: Passed) -> Iterator[Message]:
        if isinstance(message, EncodedFrame):
            try:
                message = self._as_frame(message, record)
            except DecodeError:
                self.bad += 1
                return
        self._sampled.observe(message)
        yield message


def _decode(protocol: str, limits: Limits) -> Decode:
    """Return a new decoder; one of a plain connection begins anew at its end."""
    decoder: Decoder = PROTOCOLS[protocol].decoder(limits)

    def decode(parts: Sequence[Part]) -> Iterable[Envelope]:
        nonlocal decoder
        if len(parts) == 1 and not len(parts[0]):
            decoder = PROTOCOLS[protocol].decoder(limits)
            return []
        return decoder.decode(parts)

    return decode
