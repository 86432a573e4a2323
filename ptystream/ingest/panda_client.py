"""A plain TCP connection that is asked once and then sends, such as a PandABox's.

It lives in its caller's thread: nothing here waits. The descriptor to poll stays the
same through every reconnection.
"""

import errno
import logging
import selectors
import socket
import time
from collections.abc import Callable, Iterator
from typing import Self
from urllib.parse import urlsplit

from ptystream.errors import ConfigError, DecodeError
from ptystream.ingest.endpoint import Endpoint
from ptystream.wire.envelope import Envelope, Limits
from ptystream.wire.panda_stream import PandaDecoder

log = logging.getLogger(__name__)

CHUNK_BYTES = 64 << 10
FIRST_RETRY_S, LAST_RETRY_S = 0.1, 5.0
CONNECT_S = 5.0
"""A host that doesn't answer at all is given up after so long, and tried again."""
_KEEPALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}
"""So a box that lost its power is missed after 25 s."""


class PandaClient:
    """One connection to a data port; it connects again when it ends, with a back-off.

    Bounds: 64 KiB are read at once, what the box sends meanwhile waits in the system's
    buffer and then in the box, which says so in the end's reason.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        limits: Limits,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.endpoint = endpoint
        self.decode_errors = 0
        self.lost_on_wire = 0
        self.disconnects = 0
        self.connected = False
        self._decoder = PandaDecoder(limits)
        self._clock = clock
        self._socket: socket.socket | None = None
        self._retry_s = FIRST_RETRY_S
        self._due_s = 0.0

    def __enter__(self) -> Self:
        """Look the host up, once; raise ConfigError if there is no such host."""
        parts = urlsplit(self.endpoint.address)
        try:
            found = socket.getaddrinfo(
                parts.hostname, parts.port, type=socket.SOCK_STREAM
            )
        except OSError as e:
            raise ConfigError(f"can't connect to {self.endpoint}: {e}") from e
        self._family, _, _, _, self._address = found[0]
        self._selector = selectors.DefaultSelector()
        self._connect()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._hang_up()
        self._selector.close()

    def fileno(self) -> int:
        """Return what becomes readable when something has come, or the peer has gone.

        Poll it for 0.1 s or so at most: it isn't told when a retry is due.
        """
        return self._selector.fileno()

    def messages(self, most: int) -> Iterator[Envelope]:
        """Yield what has arrived, from at most ``most`` chunks; never wait."""
        if self._socket is None and self._clock() >= self._due_s:
            self._connect()
        if not self.connected and not self._asked():
            return
        for _ in range(most):
            chunk = self._receive()
            if chunk is None:
                return
            if not chunk:
                self._lost("the box closed the connection")
                return
            yield from self._decode(chunk)

    def _decode(self, chunk: bytes) -> Iterator[Envelope]:
        try:
            yield from self._decoder.decode([chunk])
        except DecodeError as e:
            self.decode_errors += 1
            self._lost(str(e))
        else:
            self._retry_s = FIRST_RETRY_S  # it speaks our language

    def _connect(self) -> None:
        """Begin to connect."""
        self._socket = socket.socket(self._family, socket.SOCK_STREAM)
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE.items():
            if hasattr(socket, name):  # macOS has not all of them
                option = getattr(socket, name)
                self._socket.setsockopt(socket.IPPROTO_TCP, option, value)
        self._decoder.reset()
        self._due_s = self._clock() + CONNECT_S
        self._selector.register(self._socket, selectors.EVENT_WRITE)
        error = self._socket.connect_ex(self._address)
        if error not in (0, errno.EINPROGRESS):
            self._lost(errno.errorcode.get(error, str(error)))

    def _asked(self) -> bool:
        """Tell whether it is connected by now, and ask as soon as it is."""
        if self._socket is None:
            return False
        if not self._selector.select(0):
            if self._clock() >= self._due_s:
                self._lost(f"no answer in {CONNECT_S} s")
            return False
        if error := self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._lost(errno.errorcode.get(error, str(error)))
            return False
        # Some bytes into an empty buffer: they go at once.
        self._socket.send(self._decoder.request)
        self._selector.modify(self._socket, selectors.EVENT_READ)
        self.connected = True
        return True

    def _receive(self) -> bytes | None:
        """Return a chunk, empty at the end; None if there is none yet."""
        if self._socket is None:
            return None
        try:
            return self._socket.recv(CHUNK_BYTES)
        except BlockingIOError:
            return None
        except OSError:  # reset by the peer: an end like any other
            return b""

    def _lost(self, why: str) -> None:
        """Hang up, and set the time to try again."""
        self.disconnects += self.connected
        if self.connected or self._retry_s == FIRST_RETRY_S:
            log.warning("%s: %s; connecting again", self.endpoint, why)
        self._hang_up()
        self._due_s = self._clock() + self._retry_s
        self._retry_s = min(2 * self._retry_s, LAST_RETRY_S)

    def _hang_up(self) -> None:
        self.connected = False
        if self._socket is not None:
            self._selector.unregister(self._socket)
            self._socket.close()
            self._socket = None
