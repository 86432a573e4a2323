"""Positions are small: they are read in the caller's thread, without a process."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Self

import zmq

from ptystream.ingest.encoders import EncoderTable
from ptystream.ingest.endpoint import Endpoint, check_keys
from ptystream.ingest.panda_client import PandaClient
from ptystream.ingest.sampled import PerFrame, SampledPositions, SampledStats
from ptystream.ingest.subscription import Subscription
from ptystream.wire.columns import Columns
from ptystream.wire.curve import ClientKeys
from ptystream.wire.envelope import EncodedFrame, Envelope, Limits, UnknownKind
from ptystream.wire.messages import Calibration, Message, Samples


@dataclass(frozen=True, slots=True)
class PositionStats:
    """What a position reader has seen; times are the monotonic clock, 0 for never.

    ``samples`` are rows as they came; ``foreign`` messages are of a kind or a stream
    that isn't positions. ``sampled`` says what became of an encoder box's rows.
    """

    connected: bool
    disconnects: int
    messages: int
    samples: int
    lost_on_wire: int
    decode_errors: int
    foreign: int
    last_message_s: float
    sampled: SampledStats = field(default_factory=SampledStats)


class PositionReader:
    """One source of positions, whatever its wire; for one thread.

    ``table`` and ``per_frame`` are for wires that give encoder columns; others say
    themselves where they are. Raises ConfigError for keys where nothing is encrypted.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        max_samples: int = 1 << 20,
        table: EncoderTable | None = None,
        per_frame: PerFrame = "auto",
        curve: ClientKeys | None = None,
    ) -> None:
        check_keys(endpoint, curve)
        limits = Limits(max_frame_bytes=16 * max_samples, max_samples=max_samples)
        self._source: Subscription | PandaClient
        if endpoint.pattern == "tcp":
            self._source = PandaClient(endpoint, limits=limits)
        else:
            self._source = Subscription(
                endpoint, streams=("pos",), limits=limits, curve=curve
            )
        self._sampled = SampledPositions(table, per_frame)
        self._messages = self._samples = self._foreign = 0
        self._last_s = 0.0

    def __enter__(self) -> Self:
        self._source.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._source.close()

    @property
    def pollable(self) -> zmq.Socket[bytes] | int:
        """Return what a ``zmq.Poller`` watches; the same for as long as it is open."""
        if isinstance(self._source, PandaClient):
            return self._source.fileno()
        return self._source.socket

    def observe(self, messages: Iterable[Message]) -> None:
        """Learn from the detector's messages how many samples a frame has."""
        if self._sampled.listens:
            for message in messages:
                self._sampled.observe(message)

    def poll(self, now_s: float, most: int = 256) -> list[Message]:
        """Return what has arrived, from up to ``most`` messages; never wait.

        ``now_s`` (monotonic) becomes the samples' arrival time. Samples whose number a
        frame isn't known yet come with a later call.
        """
        got: list[Message] = []
        for envelope in self._source.messages(most):
            self._messages += 1
            self._last_s = now_s
            got += self._take(envelope, now_s)
        return got + self._sampled.release()

    def _take(self, envelope: Envelope, now_s: float) -> list[Message]:
        message = envelope.message
        if isinstance(message, EncodedFrame | UnknownKind | Calibration):
            self._foreign += 1
            return []
        if envelope.stream != "pos":
            self._foreign += 1
            return []
        if isinstance(message, Columns):
            self._samples += len(message)
        elif isinstance(message, Samples):
            self._samples += len(message.position_m)
            message = replace(message, arrived_s=now_s)
        return self._sampled.take(message, now_s)

    def stats(self) -> PositionStats:
        """Return the counts so far."""
        return PositionStats(
            connected=self._source.connected,
            disconnects=self._source.disconnects,
            messages=self._messages,
            samples=self._samples,
            lost_on_wire=self._source.lost_on_wire,
            decode_errors=self._source.decode_errors,
            foreign=self._foreign,
            last_message_s=self._last_s,
            sampled=self._sampled.stats(),
        )
