"""The listening end of a recording: sockets in, stamped raw messages out."""

import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self

import zmq

from ptystream.errors import ConfigError, DecodeError
from ptystream.tape.backlog import Backlog
from ptystream.tape.format import MAX_RECORD_BYTES, Part, Record, parts_crc
from ptystream.wire import native

TURN_MESSAGES = 64
"""Messages taken from one socket before the next has its turn."""
MAX_PARTS = 1024
"""Parts of one message; one with more is refused and counted."""
SCANS_REMEMBERED = 64
"""Per tap: an end that is repeated within so many scans counts once."""
_PATTERNS = {"sub": zmq.SUB, "pull": zmq.PULL}

Socket = zmq.Socket[bytes]


@dataclass(frozen=True, slots=True)
class Tap:
    """A stream to record: a zmq address to connect to, and its name on the tape.

    A ``pull`` tap takes messages away from other pullers of the same address;
    a ``sub`` tap takes nothing away. ``topic`` is a prefix, for ``sub`` only.
    """

    stream: str
    address: str
    pattern: Literal["sub", "pull"] = "sub"
    topic: bytes = b""


class Listener:
    """Reads all taps in the caller's thread into a backlog, in turns.

    Entering it connects; ConfigError if a tap can't be. ``active_s`` is when
    the last message that is no heartbeat came (monotonic; None: none yet).
    """

    def __init__(
        self,
        taps: Sequence[Tap],
        backlog: Backlog,
        *,
        high_water: int,
        max_part_bytes: int,
    ) -> None:
        self.received = self.received_bytes = self.dropped = self.refused = 0
        self.active_s: float | None = None
        self._taps = tuple(taps)
        self._backlog = backlog
        self._high_water, self._max_part_bytes = high_water, max_part_bytes
        self._sockets: dict[Socket, Tap] = {}
        self._poller = zmq.Poller()
        self._ended = dict.fromkeys((tap.stream for tap in self._taps), 0)
        self._lately: dict[str, deque[str]] = {
            stream: deque(maxlen=SCANS_REMEMBERED) for stream in self._ended
        }

    def __enter__(self) -> Self:
        if not self._taps or len(self._ended) < len(self._taps):
            raise ConfigError("taps: expected one or more, each of its own name")
        self._context = zmq.Context()
        try:
            for tap in self._taps:
                socket = self._connected(tap)
                self._sockets[socket] = tap
                self._poller.register(socket, zmq.POLLIN)
        except ConfigError:
            self._context.destroy(linger=0)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._context.destroy(linger=0)

    @property
    def scans_ended(self) -> Mapping[str, int]:
        """Scans of each tap whose end was seen."""
        return dict(self._ended)

    def turn(self, timeout_ms: int) -> bool:
        """Give each socket that has something its turn; False if none had."""
        ready = dict(self._poller.poll(timeout_ms))
        for socket, tap in self._sockets.items():
            if socket in ready:
                self._take(socket, tap)
        return bool(ready)

    def _connected(self, tap: Tap) -> Socket:
        if tap.pattern not in _PATTERNS:
            raise ConfigError(f"tap {tap.stream}: {tap.pattern!r}: want sub or pull")
        socket = self._context.socket(_PATTERNS[tap.pattern])
        socket.setsockopt(zmq.RCVHWM, self._high_water)
        socket.setsockopt(zmq.MAXMSGSIZE, self._max_part_bytes)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, 1000)
        if tap.pattern == "sub":
            socket.setsockopt(zmq.SUBSCRIBE, tap.topic)
        try:
            socket.connect(tap.address)
        except zmq.ZMQError as e:
            raise ConfigError(f"tap {tap.stream}: {tap.address!r}: {e}") from e
        return socket

    def _take(self, socket: Socket, tap: Tap) -> None:
        for _ in range(TURN_MESSAGES):
            try:
                frames = socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            now_ns = time.monotonic_ns(), time.time_ns()
            parts = tuple(frame.buffer for frame in frames)
            # Here, not where it is written: taking the crc lets go of the interpreter,
            # and a writer that does so per message got it back 500 times a second.
            crc = parts_crc(parts)
            self._keep(Record(tap.stream, parts, *now_ns, crc=crc))

    def _keep(self, record: Record) -> None:
        size = sum(map(len, record.parts))
        self.received += 1
        self.received_bytes += size
        if len(record.parts) > MAX_PARTS or size > MAX_RECORD_BYTES - (1 << 20):
            self.refused += 1
        elif not self._backlog.put(record):
            self.dropped += 1
        if not _topic(record.parts).endswith(b"/hb"):
            self.active_s = time.monotonic()
        self._note_end(record)

    def _note_end(self, record: Record) -> None:
        scan = _ended_scan(record.parts)
        lately = self._lately[record.stream]
        if scan is not None and scan not in lately:
            lately.append(scan)
            self._ended[record.stream] += 1


def _topic(parts: Sequence[Part]) -> bytes:
    """Return the native wire's topic; empty for any other message."""
    topic = bytes(parts[0][:64]) if parts else b""
    return topic if topic.startswith(native.MAGIC) else b""


def _ended_scan(parts: Sequence[Part]) -> str | None:
    """Return the uid of the scan that this message ends, if it ends one."""
    if not _topic(parts).endswith(b"/end"):
        return None
    try:
        return native.decode(parts).run
    except DecodeError:
        return None
