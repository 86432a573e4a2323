"""Connections that are recorded: each gives raw messages, and never waits."""

import contextlib
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol
from urllib.parse import urlsplit

import zmq
from zmq.utils.monitor import recv_monitor_message

from ptystream.errors import ConfigError
from ptystream.tape.format import Part
from ptystream.tape.streams import Pattern

Secure = Callable[[zmq.Socket[bytes]], None]
"""Sets a socket's keys, before it connects."""
CHUNK_BYTES = 64 << 10
ANSWER_BYTES = 4096
"""A longer first line of a plain connection is no answer."""
RETRY_S = (0.1, 1.0)
"""Before the first attempt to connect again, and at most."""
_KEEPALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}
"""So a sender that lost its power is missed after 25 s."""
_PATTERNS: dict[Pattern, int] = {"sub": zmq.SUB, "pull": zmq.PULL, "req": zmq.REQ}


class Inlet(Protocol):
    """A connection, for one thread; ``open`` raises ConfigError if it can't be made."""

    def open(self) -> None:
        """Begin to connect."""
        ...

    def close(self) -> None:
        """Close; what waits is dropped."""
        ...

    def waiting_on(self) -> zmq.Socket[bytes] | int | None:
        """Return what a poller watches; None while there is no connection."""
        ...

    def messages(self, most: int) -> Iterator[Sequence[Part]]:
        """Yield what has arrived, at most so many."""
        ...


class ZmqInlet:
    """A SUB, PULL or REQ socket; REQ asks with ``request`` for each message.

    The queue holds ``high_water`` messages; a part above ``max_part_bytes`` ends its
    connection, which is made again.
    """

    def __init__(
        self,
        address: str,
        pattern: Pattern,
        *,
        topic: bytes = b"",
        request: bytes = b"",
        secure: Secure | None = None,
        high_water: int = 1000,
        max_part_bytes: int = 256 << 20,
    ) -> None:
        self._address, self._pattern = address, pattern
        self._topic, self._request, self._secure = topic, request, secure
        self._high_water, self._max_part_bytes = high_water, max_part_bytes
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None

    def open(self) -> None:
        """Connect; ConfigError for an address that ZeroMQ doesn't take."""
        if self._pattern not in _PATTERNS:
            raise ConfigError(f"{self._pattern!r}: expected {', '.join(_PATTERNS)}")
        self._context = zmq.Context()
        self._socket = self._context.socket(_PATTERNS[self._pattern])
        self._socket.setsockopt(zmq.RCVHWM, self._high_water)
        self._socket.setsockopt(zmq.MAXMSGSIZE, self._max_part_bytes)
        self._socket.setsockopt(zmq.RECONNECT_IVL_MAX, 1000)
        self._socket.setsockopt(zmq.IPV6, "[" in self._address)
        if self._pattern == "sub":
            self._socket.setsockopt(zmq.SUBSCRIBE, self._topic)
        if self._pattern == "req":
            self._socket.setsockopt(zmq.REQ_RELAXED, 1)
        if self._secure is not None:
            self._secure(self._socket)
        self._monitor = self._socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)
        try:
            self._socket.connect(self._address)
        except zmq.ZMQError as e:
            self.close()
            raise ConfigError(f"{self._address!r}: {e}") from e

    def close(self) -> None:
        """Close the socket."""
        if self._context is not None:
            self._context.destroy(linger=0)
            self._context = None

    def waiting_on(self) -> zmq.Socket[bytes] | int | None:
        """Return the socket."""
        return self._socket

    def messages(self, most: int) -> Iterator[Sequence[Part]]:
        """Yield what has arrived; the parts are views of ZeroMQ's own memory."""
        self._ask_new_peers()
        for _ in range(most):
            try:
                frames = self._socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.ZMQError as e:
                if e.errno in (zmq.EAGAIN, zmq.EFSM):  # nothing, or nobody to ask yet
                    return
                raise
            yield [frame.buffer for frame in frames]
            self._ask()

    def _ask_new_peers(self) -> None:
        """Ask again after a connection was made: a question to a dead peer is lost."""
        while self._monitor.poll(0):
            recv_monitor_message(self._monitor)
            self._ask()

    def _ask(self) -> None:
        if self._pattern == "req":
            with contextlib.suppress(zmq.Again):
                self._socket.send(self._request, zmq.NOBLOCK)


class ByteInlet:
    """A plain TCP connection, in chunks as they came; an empty one is its end.

    ``request`` is sent first and answered by a line that begins with ``OK``, which is
    no part of the recording. A connection that is refused or ends is made again, after
    0.1 s and at last after 1 s. ``refused`` counts answers other than ``OK``.
    """

    def __init__(self, address: str, *, request: bytes) -> None:
        self._address, self._request = address, request
        self._socket: socket.socket | None = None
        self._state = "closed"
        self._answer = b""
        self._retry_s, self._pause_s = 0.0, RETRY_S[0]
        self.refused = 0

    def open(self) -> None:
        """Look at the address; ConfigError if it isn't ``tcp://HOST:PORT``."""
        try:
            parts = urlsplit(self._address)
            host, port = parts.hostname, parts.port
        except ValueError as e:
            raise ConfigError(f"{self._address!r}: {e}") from e
        if parts.scheme != "tcp" or not host or not port:
            raise ConfigError(f"{self._address!r}: expected tcp://HOST:PORT")
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as e:
            raise ConfigError(f"{self._address!r}: {e}") from e
        self._family, _, _, _, self._at = found[0]

    def close(self) -> None:
        """Close the connection."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self._state = "closed"

    def waiting_on(self) -> zmq.Socket[bytes] | int | None:
        """Return the descriptor once it is connected."""
        self._advance()
        if self._socket is None or self._state == "connecting":
            return None
        return self._socket.fileno()

    def messages(self, most: int) -> Iterator[Sequence[Part]]:
        """Yield the chunks that have arrived."""
        for _ in range(most):
            chunk = self._receive()
            if chunk is None:
                return
            if not chunk:
                ended = self._state == "open"
                self._give_up()
                if ended:
                    yield [b""]
                return
            if self._state == "asked":
                chunk = self._answered(chunk)
            if chunk:
                yield [chunk]

    def _advance(self) -> None:
        """Connect when it is time, and ask once connected."""
        if self._state == "closed" and time.monotonic() >= self._retry_s:
            self._socket = socket.socket(self._family, socket.SOCK_STREAM)
            self._socket.setblocking(False)
            _keep_alive(self._socket)
            self._socket.connect_ex(self._at)
            self._state = "connecting"
        if self._state != "connecting" or self._socket is None:
            return
        # A socket that isn't connected yet is neither writable nor in error.
        if any(zmq.select([], [self._socket], [self._socket], 0)):
            if self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                self._give_up()
                return
            self._socket.send(self._request)  # some bytes into an empty buffer
            self._state, self._answer = "asked", b""

    def _receive(self) -> bytes | None:
        """Return a chunk; empty at the end of the connection, None if there is none."""
        if self._socket is None or self._state == "connecting":
            return None
        try:
            return self._socket.recv(CHUNK_BYTES)
        except BlockingIOError:
            return None
        except OSError:  # reset by the peer: an end like any other
            return b""

    def _answered(self, chunk: bytes) -> bytes:
        """Take the answer's line off what came; give up if it is no ``OK``."""
        self._answer += chunk
        line, end, rest = self._answer.partition(b"\n")
        if not end and len(line) < ANSWER_BYTES:
            return b""
        if not line.startswith(b"OK"):
            self.refused += 1
            self._give_up()
            return b""
        self._state, self._pause_s = "open", RETRY_S[0]
        return rest

    def _give_up(self) -> None:
        self.close()
        self._retry_s = time.monotonic() + self._pause_s
        self._pause_s = min(2 * self._pause_s, RETRY_S[1])


def _keep_alive(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        if hasattr(socket, name):  # macOS has not all of them
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
