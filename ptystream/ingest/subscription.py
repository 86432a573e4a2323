"""A connected socket with its decoder, and what got lost on the way to it."""

import contextlib
import logging
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Self

import zmq
from zmq.utils.monitor import recv_monitor_message

from ptystream.errors import ConfigError, DecodeError
from ptystream.ingest.endpoint import Endpoint
from ptystream.wire.codecs import Buffer
from ptystream.wire.curve import REFUSED, ClientKeys
from ptystream.wire.envelope import Envelope, Limits

log = logging.getLogger(__name__)

_SOCKET_TYPES = {"sub": zmq.SUB, "pull": zmq.PULL, "req": zmq.REQ}
_EVENTS = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED | REFUSED
_RETRY_S = 1.0
# Measured: copying is faster below 8 kB, 2-8 times slower here.
_NO_COPY_FROM = 64 << 10
_QUEUE_BYTES = 512 << 20
_MIN_QUEUE, _MAX_QUEUE = 16, 10_000


class SequenceCounter:
    """Counts the messages that never came, by the gaps in a sender's numbers.

    It remembers the last ``streams`` (stream, run) pairs; the oldest is forgotten.
    The first number of the first run is where we joined, not a loss.
    """

    def __init__(self, streams: int = 16) -> None:
        self._expected: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._joined: set[str] = set()
        self._streams = streams

    def gap(self, envelope: Envelope) -> int:
        """Return how many messages are missing just before this one."""
        if envelope.seq is None:
            return 0
        key = envelope.stream, envelope.run
        known = self._expected.pop(key, None)
        self._expected[key] = envelope.seq + 1
        if len(self._expected) > self._streams:
            self._expected.popitem(last=False)
        if known is None:
            known = 0 if envelope.stream in self._joined else envelope.seq
            if len(self._joined) < self._streams:
                self._joined.add(envelope.stream)
        # A lower number is a sender that began again, or a tape replayed.
        return max(0, envelope.seq - known)


class Subscription:
    """One connecting socket, its decoder and its counts; all bounds are the socket's.

    ZeroMQ's queue holds about ``512 MiB`` of the largest frames (16 to 10 000
    messages); a PUB sender drops what doesn't fit, and the gap is counted here.
    ``refused`` counts handshakes that failed, as they do with wrong CURVE keys.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        streams: Sequence[str],
        limits: Limits,
        curve: ClientKeys | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.refused = 0
        self._curve = curve
        self._retry_s = 0.0
        self.decode_errors = 0
        self.lost_on_wire = 0
        self.disconnects = 0
        self._peers = 0
        self._gone = False
        self._streams = streams
        self._limits = limits
        self._decoder = endpoint.wire.decoder(limits)
        asks = endpoint.pattern == "req"
        self._request: bytes | None = (
            getattr(self._decoder, "request", b"") if asks else None
        )
        self._sequence = SequenceCounter()
        self._large = False

    def __enter__(self) -> Self:
        self._context = zmq.Context()
        self.socket = self._context.socket(_SOCKET_TYPES[self.endpoint.pattern])
        try:
            self._connect()
        except zmq.ZMQError as e:
            self.close()
            raise ConfigError(f"can't connect to {self.endpoint}: {e}") from e
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket; what waits in it is dropped."""
        self._context.destroy(linger=0)

    def _connect(self) -> None:
        largest = self._limits.max_frame_bytes
        hwm = min(max(_QUEUE_BYTES // largest, _MIN_QUEUE), _MAX_QUEUE)
        self.socket.setsockopt(zmq.RCVHWM, hwm)
        self.socket.setsockopt(zmq.RECONNECT_IVL_MAX, 1000)
        part = largest * self.endpoint.wire.largest
        # LZ4 makes what can't be compressed 1/255 larger.
        self.socket.setsockopt(zmq.MAXMSGSIZE, part + part // 128 + (64 << 10))
        self.socket.setsockopt(zmq.IPV6, "[" in self.endpoint.address)
        if self._curve is not None:
            self._curve.apply(self.socket)
        self._monitor = self.socket.get_monitor_socket(_EVENTS)
        if self.endpoint.pattern == "sub":
            for topic in self._decoder.topics(self._streams):
                self.socket.subscribe(topic)
        if self.endpoint.pattern == "req":
            # A sender that restarts may be asked again, though it owes an answer.
            self.socket.setsockopt(zmq.REQ_RELAXED, 1)
            self.socket.setsockopt(zmq.REQ_CORRELATE, 1)
        self.socket.connect(self.endpoint.address)

    @property
    def connected(self) -> bool:
        """Tell whether the sender was there when the queue was last empty."""
        return self._peers > 0

    def messages(self, most: int) -> Iterator[Envelope]:
        """Yield what has arrived, from at most ``most`` messages; never wait.

        Undecodable messages are counted, logged at their 1st, 10th, 100th…, and
        skipped. Payloads may be views that live as long as their envelope.
        """
        for _ in range(most):
            try:
                parts = self._receive()
            except zmq.ZMQError as e:
                # EFSM: there was nobody to ask yet.
                if e.errno not in (zmq.EAGAIN, zmq.EFSM):
                    raise
                self._watch()
                return
            self._ask()
            try:
                for envelope in self._decoder.decode(parts):
                    self.lost_on_wire += self._sequence.gap(envelope)
                    yield envelope
            except DecodeError as e:
                self.count_error(e)

    def _ask(self) -> None:
        """Ask for the next message where the wire wants that."""
        if self._request is not None:
            with contextlib.suppress(zmq.Again):
                self.socket.send(self._request, zmq.NOBLOCK)

    def _watch(self) -> None:
        """Follow who comes and goes; connect again to a sender that went.

        ZeroMQ does so by itself, except after a message above MAXMSGSIZE: there it
        gives the connection up for good. To disconnect drops what waits in the queue,
        such as the last words of a sender that has just gone: so it is done at the
        first look after the news at which the queue is empty.
        """
        now = time.monotonic()
        if self._gone and not self._peers and now >= self._retry_s:
            with contextlib.suppress(zmq.ZMQError):
                self.socket.disconnect(self.endpoint.address)
            self.socket.connect(self.endpoint.address)
            self._gone, self._retry_s = False, now + _RETRY_S
        while self._monitor.poll(0):
            self._note(recv_monitor_message(self._monitor)["event"])

    def _note(self, event: int) -> None:
        """Note who came, went, or was refused."""
        if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self._peers += 1
            self._gone = False
            self._ask()
        elif event == zmq.EVENT_DISCONNECTED:
            self.disconnects += self._peers > 0  # else it was refused
            self._peers = max(0, self._peers - 1)
            self._gone = True
        else:
            self._gone = True
            self.refused += 1
            if _is_power_of_ten(self.refused):
                log.warning(
                    "%s: handshake %d failed; are the CURVE keys right?",
                    self.endpoint,
                    self.refused,
                )

    def count_error(self, error: DecodeError) -> None:
        """Count a message that can't be decoded; log it now and then."""
        self.decode_errors += 1
        if _is_power_of_ten(self.decode_errors):
            log.warning(
                "%s: message %d that can't be decoded: %s",
                self.endpoint,
                self.decode_errors,
                error,
            )

    def _receive(self) -> Sequence[Buffer]:
        """Receive one message, without a copy if the last one was large."""
        if not self._large:
            parts = self.socket.recv_multipart(zmq.NOBLOCK)
        else:
            frames = self.socket.recv_multipart(zmq.NOBLOCK, copy=False)
            parts = [frame.buffer for frame in frames]
        self._large = len(parts[-1]) >= _NO_COPY_FROM
        return parts


def _is_power_of_ten(number: int) -> bool:
    return str(number).rstrip("0") == "1"
