"""A plain TCP server that plays a recorded connection, such as a PandABox's."""

import contextlib
import socket
import time
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from ptystream.errors import ConfigError
from ptystream.tape.format import Record

MAX_CLIENTS = 8
REQUEST_BYTES = 256
"""A client's first line may not be longer."""
REQUEST_S = 2.0
"""A client that connects has so long to say what it wants."""
RETURN_S = 2.0
"""When the tape begins again, a client has so long to come back."""


class TcpOutlet:
    """Answers each client's first line with ``OK``, then sends it every chunk.

    A line with words other than those of ``request``, in any order, is answered with
    ``ERR`` and what is expected. Clients are let in before the first chunk of a
    connection only, up to 8; later ones wait for the next, since a stream that is
    joined in its midst can't be read. One that doesn't take a chunk within
    ``patience_s`` is dropped. ``address`` is ``tcp://HOST:PORT``, ``*`` for any port.
    """

    def __init__(
        self, address: str, *, request: bytes, patience_s: float = 1.0
    ) -> None:
        self.address = address
        self._request = request.strip()
        self._patience_s = patience_s
        self._clients: list[socket.socket] = []
        self._begun = False

    def __enter__(self) -> Self:
        try:
            parts = urlsplit(self.address.replace(":*", ":0"))
            host, port = parts.hostname or "", parts.port
            if parts.scheme != "tcp" or port is None:
                raise ConfigError(f"outlet {self.address!r}: expected tcp://HOST:PORT")
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            self._server = socket.create_server(
                ("" if host == "*" else host, port), family=family, backlog=MAX_CLIENTS
            )
        except (OSError, ValueError) as e:
            raise ConfigError(f"outlet {self.address!r}: {e}") from e
        at = self._server.getsockname()
        shown = f"[{at[0]}]" if ":" in at[0] else at[0]
        self.address = f"tcp://{shown}:{at[1]}"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._hang_up()
        self._server.close()

    def wait_for_peer(self, timeout_s: float) -> bool:
        """Wait until a client has asked for the stream."""
        deadline_s = time.monotonic() + timeout_s
        while not self._begun and len(self._clients) < MAX_CLIENTS:
            wait_s = 0 if self._clients else max(0.0, deadline_s - time.monotonic())
            self._server.settimeout(wait_s)
            try:
                client, _ = self._server.accept()
            except (TimeoutError, BlockingIOError):
                break
            self._greet(client)
        return bool(self._clients)

    def send(self, record: Record) -> bool:
        """Send the chunk to all clients, an empty one ends the connection."""
        self.wait_for_peer(0)
        chunk = b"".join(record.parts)
        if not chunk:
            self._hang_up()
            return True
        self._begun = True
        for client in tuple(self._clients):
            try:
                client.sendall(chunk)
            except OSError:  # gone, or no room within its patience
                client.close()
                self._clients.remove(client)
        return bool(self._clients)

    def rewind(self) -> None:
        """End the connection, and wait up to 2 s for a client to come back."""
        if self._begun:
            self._hang_up()
            self.wait_for_peer(RETURN_S)

    def _greet(self, client: socket.socket) -> None:
        """Read what a client wants and answer it."""
        client.settimeout(REQUEST_S)
        try:
            line = _line(client)
            wanted = set(self._request.split())
            if set(line.split()) != wanted:
                client.sendall(b"ERR this tape holds " + self._request + b"\n")
                client.close()
                return
            client.sendall(b"OK\n")
            client.settimeout(self._patience_s)
        except OSError:
            client.close()
            return
        self._clients.append(client)

    def _hang_up(self) -> None:
        for client in self._clients:
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_WR)
            client.close()
        self._clients.clear()
        self._begun = False


def _line(client: socket.socket) -> bytes:
    """Return a client's first line; what is longer or comes too late is cut."""
    line = b""
    deadline_s = time.monotonic() + REQUEST_S
    while not line.endswith(b"\n") and len(line) < REQUEST_BYTES:
        byte = client.recv(1)
        if not byte or time.monotonic() > deadline_s:
            break
        line += byte
    return line
