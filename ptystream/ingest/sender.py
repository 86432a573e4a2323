"""Stream your own frames and positions: the sending end of the native wire.

with Sender("tcp://*:5555") as sender:
    sender.wait_for_subscribers(10)
    sender.send(ScanStart("scan-1", "det", shape=(256, 256), dtype="<u2"))
    for index, counts in enumerate(frames):
        sender.send(Frame("scan-1", index, counts), encoding="bslz4")
    sender.send(ScanEnd("scan-1", "det", "complete"))
"""

import dataclasses
import time
from dataclasses import dataclass
from typing import Literal, Self

import zmq

from ptystream.errors import ConfigError
from ptystream.wire import native
from ptystream.wire.codecs import Encoding
from ptystream.wire.curve import Admission
from ptystream.wire.door import Door
from ptystream.wire.envelope import EncodedFrame, encode_frame
from ptystream.wire.messages import (
    Frame,
    Heartbeat,
    Message,
    Samples,
    ScanEnd,
    ScanStart,
)

_SOCKET_TYPES = {"pub": zmq.XPUB, "push": zmq.PUSH}
_RETRY_S = 0.002


@dataclass(frozen=True, slots=True)
class SenderStats:
    """Messages handed to ZeroMQ, and those dropped because its queue was full."""

    sent: int
    dropped: int


@dataclass(slots=True)
class _Stream:
    """What the sender remembers of one stream: its open scan and its numbers."""

    scan: str = ""
    start: ScanStart | None = None
    seq: int = 0
    units: int = 0
    sent_s: float = 0.0
    start_sent_s: float = 0.0


class Sender:
    """A bound PUB or PUSH socket that numbers, repeats and counts; for one thread.

    A full queue (``hwm`` messages a subscriber) drops the message and counts it, for
    all subscribers alike; scan starts and ends are tried for ``urgent_wait_s`` first.
    Without a listener, ``pub`` sends to nobody and ``push`` has a full queue. No thread
    runs behind it: call ``idle`` while there is nothing to send. With ``curve`` it
    serves only those who are listed there, encrypted.
    """

    def __init__(
        self,
        address: str = "tcp://127.0.0.1:0",
        *,
        pattern: Literal["pub", "push"] = "pub",
        heartbeat_s: float = 1.0,
        restart_s: float = 2.0,
        hwm: int = 1000,
        urgent_wait_s: float = 1.0,
        linger_s: float = 2.0,
        curve: Admission | None = None,
    ) -> None:
        if pattern not in _SOCKET_TYPES:
            raise ConfigError(f"pattern {pattern!r}, expected pub or push")
        self._bind = address
        self._pattern = pattern
        self._heartbeat_s = heartbeat_s
        self._restart_s = restart_s
        self._hwm = hwm
        self._urgent_wait_s = urgent_wait_s
        self._linger_s = linger_s
        self._door = Door(curve)
        self._streams: dict[str, _Stream] = {}
        self._subscribers = 0
        self._sent = self._dropped = 0

    def __enter__(self) -> Self:
        self._context = zmq.Context()
        self._socket = self._context.socket(_SOCKET_TYPES[self._pattern])
        self._socket.setsockopt(zmq.SNDHWM, self._hwm)
        self._door.open(self._context)
        self._door.guard(self._socket)
        if self._pattern == "pub":
            self._socket.setsockopt(zmq.XPUB_NODROP, 1)
            self._socket.setsockopt(zmq.XPUB_VERBOSER, 1)
        try:
            self._socket.bind(self._bind)
        except zmq.ZMQError as e:
            self._socket.close(linger=0)
            self._door.close()
            self._context.term()
            raise ConfigError(f"can't bind {self._bind}: {e}") from e
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close(linger=int(self._linger_s * 1000))
        self._door.close()
        self._context.term()

    @property
    def address(self) -> str:
        """Return the bound address, with the port that was chosen."""
        return self._socket.getsockopt_string(zmq.LAST_ENDPOINT)

    @property
    def stats(self) -> SenderStats:
        """Return the counts so far."""
        return SenderStats(self._sent, self._dropped)

    def send(
        self,
        message: Message | EncodedFrame,
        encoding: Encoding = "raw",
        *,
        wait_s: float = 0.0,
    ) -> bool:
        """Send a message; False if it was dropped because the queue is full.

        A full queue is given ``wait_s`` to empty: 0 for a detector, which can't wait,
        more for a file, which can.

        Arrays are copied or compressed, so they may be used again at once. A ScanEnd
        that doesn't say how much was sent is told by what went through here. Raises
        ValueError for what the wire doesn't carry.
        """
        self._greet()
        stream = self._streams.setdefault(_stream_of(message), _Stream())
        if message.scan != stream.scan or isinstance(message, ScanStart):
            self._open(stream, message)
        if isinstance(message, Frame):
            message = encode_frame(message, encoding)
        if isinstance(message, ScanEnd) and message.sent is None:
            message = dataclasses.replace(message, sent=stream.units)
        done = self._number(stream, message, wait_s)
        stream.units += _units(message)
        if isinstance(message, ScanEnd):
            self._streams[message.stream] = _Stream(sent_s=stream.sent_s)
        self._repeat_starts()
        return done

    def idle(self) -> None:
        """Send what is due: heartbeats, and starts again for those who joined late."""
        self._greet()
        self._repeat_starts()
        now = time.monotonic()
        for name, stream in self._streams.items():
            if now - stream.sent_s >= self._heartbeat_s:
                beat = Heartbeat(stream.scan, "pos" if name == "pos" else "det")
                self._number(stream, beat)

    def wait_for_subscribers(self, timeout_s: float, count: int = 1) -> bool:
        """Return True once that many subscribe (push: once one listens)."""
        if self._pattern == "push":
            return bool(self._socket.poll(int(timeout_s * 1000), zmq.POLLOUT))
        deadline = time.monotonic() + timeout_s
        while self._subscribers < count:
            left_ms = int((deadline - time.monotonic()) * 1000)
            if left_ms < 0 or not self._socket.poll(left_ms, zmq.POLLIN):
                return False
            self._greet()
        return True

    def _open(self, stream: _Stream, message: Message | EncodedFrame) -> None:
        """Begin a scan; a start that is sent twice begins it anew."""
        if message.scan != stream.scan or stream.start is not None:
            stream.seq = stream.units = 0
        stream.scan = message.scan
        stream.start = message if isinstance(message, ScanStart) else None
        stream.start_sent_s = time.monotonic()

    def _greet(self) -> None:
        """Read who subscribed or left; tell newcomers what is open."""
        if self._pattern != "pub":
            return
        new = False
        while int(self._socket.get(zmq.EVENTS)) & zmq.POLLIN:
            notice = self._socket.recv()
            joined = notice[:1] == b"\x01"
            self._subscribers += 1 if joined else -1
            new |= joined
        if new:
            self._repeat_starts(now=True)

    def _repeat_starts(self, *, now: bool = False) -> None:
        clock = time.monotonic()
        for stream in self._streams.values():
            due = now or clock - stream.start_sent_s >= self._restart_s
            if stream.start is not None and due:
                stream.start_sent_s = clock
                self._number(stream, dataclasses.replace(stream.start, again=True))

    def _number(
        self, stream: _Stream, message: Message | EncodedFrame, wait_s: float = 0.0
    ) -> bool:
        """Give a message its number, which it keeps when it is dropped, and send it."""
        parts = native.encode(message, seq=stream.seq, sent_ns=time.time_ns())
        stream.seq += 1
        stream.sent_s = time.monotonic()
        if _urgent(message):
            wait_s = max(wait_s, self._urgent_wait_s)
        deadline = stream.sent_s + wait_s
        while not (done := self._offer(parts)) and time.monotonic() < deadline:
            time.sleep(_RETRY_S)
        self._sent += done
        self._dropped += not done
        return done

    def _offer(self, parts: list[bytes | memoryview]) -> bool:
        try:
            # Views are the caller's arrays; bytes are ours and need no copy.
            copy = any(isinstance(part, memoryview) for part in parts[2:])
            self._socket.send_multipart(parts, zmq.NOBLOCK, copy=copy)
        except zmq.Again:
            return False
        return True


def _stream_of(message: Message | EncodedFrame) -> str:
    if isinstance(message, Frame | EncodedFrame):
        return "det"
    return "pos" if isinstance(message, Samples) else message.stream


def _units(message: Message | EncodedFrame) -> int:
    """Return what a ScanEnd counts: frames, or samples."""
    if isinstance(message, Samples):
        return len(message.position_m)
    return int(isinstance(message, EncodedFrame))


def _urgent(message: Message | EncodedFrame) -> bool:
    if isinstance(message, ScanStart):
        return not message.again
    return isinstance(message, ScanEnd)
