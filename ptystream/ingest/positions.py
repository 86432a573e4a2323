"""Positions are small: they are read in the caller's thread, without a process."""

from dataclasses import dataclass, replace
from typing import Self

import zmq

from ptystream.ingest.endpoint import Endpoint
from ptystream.ingest.subscription import Subscription
from ptystream.wire.envelope import EncodedFrame, Limits, UnknownKind
from ptystream.wire.messages import Message, Samples


@dataclass(frozen=True, slots=True)
class PositionStats:
    """What a position reader has seen; times are the monotonic clock, 0 for never.

    ``foreign`` messages are of a kind or a stream that isn't positions.
    """

    connected: bool
    disconnects: int
    messages: int
    samples: int
    lost_on_wire: int
    decode_errors: int
    foreign: int
    last_message_s: float


class PositionReader:
    """One SUB or PULL socket of positions; for one thread."""

    def __init__(self, endpoint: Endpoint, *, max_samples: int = 1 << 20) -> None:
        limits = Limits(max_frame_bytes=16 * max_samples, max_samples=max_samples)
        self._subscription = Subscription(endpoint, streams=("pos",), limits=limits)
        self._messages = self._samples = self._foreign = 0
        self._last_s = 0.0

    def __enter__(self) -> Self:
        self._subscription.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._subscription.close()

    @property
    def socket(self) -> zmq.Socket[bytes]:
        """Return the socket, for a ``zmq.Poller``."""
        return self._subscription.socket

    def poll(self, now_s: float, most: int = 256) -> list[Message]:
        """Return what has arrived, up to ``most``; never wait.

        ``now_s`` (monotonic) becomes the samples' arrival time.
        """
        got: list[Message] = []
        for envelope in self._subscription.messages(most):
            self._messages += 1
            self._last_s = now_s
            message = envelope.message
            if isinstance(message, EncodedFrame | UnknownKind):
                self._foreign += 1
            elif envelope.stream != "pos":
                self._foreign += 1
            elif isinstance(message, Samples):
                self._samples += len(message.position_m)
                got.append(replace(message, arrived_s=now_s))
            else:
                got.append(message)
        return got

    def stats(self) -> PositionStats:
        """Return the counts so far."""
        return PositionStats(
            connected=self._subscription.connected,
            disconnects=self._subscription.disconnects,
            messages=self._messages,
            samples=self._samples,
            lost_on_wire=self._subscription.lost_on_wire,
            decode_errors=self._subscription.decode_errors,
            foreign=self._foreign,
            last_message_s=self._last_s,
        )
