"""The listening end of a recording: sockets in, stamped raw messages out."""

import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import zmq

from ptystream.errors import ConfigError, DecodeError
from ptystream.tape.backlog import Backlog
from ptystream.tape.format import MAX_RECORD_BYTES, Part, Record, parts_crc
from ptystream.tape.inlets import ByteInlet, Inlet, Secure, ZmqInlet
from ptystream.tape.source import native_messages
from ptystream.tape.streams import Decode, Pattern, StreamInfo
from ptystream.wire.messages import Heartbeat, ScanEnd

TURN_MESSAGES = 64
"""Messages taken from one socket before the next has its turn."""
MAX_PARTS = 1024
"""Parts of one message; one with more is refused and counted."""
SCANS_REMEMBERED = 64
"""Per tap: an end that is repeated within so many scans counts once."""
CONNECT_MS = 20
"""A plain connection is looked after this often while it isn't made."""


@dataclass(frozen=True, slots=True)
class Tap:
    """A stream to record: an address to connect to, and its name on the tape.

    ``protocol`` is the wire's name, for the tape's header; ``decode`` follows the
    messages, only to see scans end. A ``pull`` tap takes messages away from other
    pullers of the same address, a ``sub`` tap takes nothing away. ``topic`` is a
    prefix, for ``sub`` only; ``request`` is what ``req`` asks with for each message,
    and what ``tcp`` says once it is connected. ``secure`` sets a socket's keys.
    """

    stream: str
    address: str
    pattern: Pattern = "sub"
    topic: bytes = b""
    protocol: str = "ptys"
    request: bytes = b""
    decode: Decode = native_messages
    secure: Secure | None = None

    @property
    def info(self) -> StreamInfo:
        """Return what the tape's header says of it."""
        return StreamInfo(
            self.stream,
            self.protocol,
            self.pattern,
            self.address,
            topic=self.topic.decode("ascii", "backslashreplace"),
            request=self.request.decode("ascii", "backslashreplace"),
        )


class Listener:
    """Reads all taps in the caller's thread into a backlog, in turns.

    Entering it connects; ConfigError if a tap can't be. ``active_s`` is when
    the last message that is no heartbeat came (monotonic; None: none yet).
    ``undecodable`` messages are recorded all the same.
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
        self.undecodable = 0
        self.active_s: float | None = None
        self._taps = tuple(taps)
        self._backlog = backlog
        self._high_water, self._max_part_bytes = high_water, max_part_bytes
        self._inlets: list[tuple[Tap, Inlet]] = []
        self._ended = dict.fromkeys((tap.stream for tap in self._taps), 0)
        self._lately: dict[str, deque[str]] = {
            stream: deque(maxlen=SCANS_REMEMBERED) for stream in self._ended
        }

    def __enter__(self) -> Self:
        if not self._taps or len(self._ended) < len(self._taps):
            raise ConfigError("taps: expected one or more, each of its own name")
        with ExitStack() as stack:
            for tap in self._taps:
                inlet = self._inlet(tap)
                try:
                    inlet.open()
                except ConfigError as e:
                    raise ConfigError(f"tap {tap.stream}: {e}") from e
                stack.callback(inlet.close)
                self._inlets.append((tap, inlet))
            self._open = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open.close()
        self._inlets.clear()

    @property
    def scans_ended(self) -> Mapping[str, int]:
        """Scans of each tap whose end was seen."""
        return dict(self._ended)

    def turn(self, timeout_ms: int) -> bool:
        """Give each connection its turn; False if none had anything."""
        poller, all_there = zmq.Poller(), True
        for _, inlet in self._inlets:
            waiting = inlet.waiting_on()
            all_there &= waiting is not None
            if waiting is not None:
                poller.register(waiting, zmq.POLLIN)
        poller.poll(timeout_ms if all_there else min(timeout_ms, CONNECT_MS))
        # All have their turn: a REQ socket that has to ask again isn't readable.
        took = [self._take(tap, inlet) for tap, inlet in self._inlets]
        return any(took)

    def _inlet(self, tap: Tap) -> Inlet:
        if tap.pattern == "tcp":
            return ByteInlet(tap.address, request=tap.request)
        return ZmqInlet(
            tap.address,
            tap.pattern,
            topic=tap.topic,
            request=tap.request,
            secure=tap.secure,
            high_water=self._high_water,
            max_part_bytes=self._max_part_bytes,
        )

    def _take(self, tap: Tap, inlet: Inlet) -> bool:
        """Keep what one connection has; False if it had nothing."""
        before = self.received
        for raw in inlet.messages(TURN_MESSAGES):
            now_ns = time.monotonic_ns(), time.time_ns()
            parts = tuple(raw)
            # Here, not where it is written: taking the crc lets go of the interpreter,
            # and a writer that does so per message got it back 500 times a second.
            crc = parts_crc(parts)
            self._keep(Record(tap.stream, parts, *now_ns, crc=crc))
            self._follow(tap, parts)
        return self.received > before

    def _keep(self, record: Record) -> None:
        size = sum(map(len, record.parts))
        self.received += 1
        self.received_bytes += size
        if len(record.parts) > MAX_PARTS or size > MAX_RECORD_BYTES - (1 << 20):
            self.refused += 1
        elif not self._backlog.put(record):
            self.dropped += 1

    def _follow(self, tap: Tap, parts: Sequence[Part]) -> None:
        """See whether the message ends a scan, and whether it says anything."""
        beats = False
        try:
            for envelope in tap.decode(parts):
                beats = isinstance(envelope.message, Heartbeat)
                if isinstance(envelope.message, ScanEnd):
                    self._note_end(tap.stream, envelope.message.scan)
        except DecodeError:
            self.undecodable += 1
        if not beats:
            self.active_s = time.monotonic()

    def _note_end(self, stream: str, scan: str) -> None:
        lately = self._lately[stream]
        if scan not in lately:
            lately.append(scan)
            self._ended[stream] += 1
