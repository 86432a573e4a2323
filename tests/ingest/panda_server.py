"""An encoder box's data port on a real socket, that says what a test tells it to."""

import socket
import threading
from collections.abc import Sequence
from typing import Self

from ptystream.wire import panda


class PandaServer:
    """Serves one connection after the other, each with the next of ``speeches``.

    A speech is bytes in pieces; an empty piece waits for ``go_on``. After a speech the
    connection is closed, at ``stay`` only with the server.
    """

    def __init__(
        self,
        speeches: Sequence[Sequence[bytes]],
        *,
        stay: bool = False,
        address: tuple[str, int] = ("127.0.0.1", 0),
    ) -> None:
        self._speeches = speeches
        self._stay = stay
        self._address = address
        self.go_on = threading.Event()
        self.stop = threading.Event()
        self.asked: list[bytes] = []
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Self:
        self._listener = socket.create_server(self._address)
        self._listener.settimeout(0.05)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.go_on.set()
        self._thread.join(10)
        self._listener.close()

    @property
    def port(self) -> int:
        return self._listener.getsockname()[1]

    @property
    def url(self) -> str:
        return f"panda://127.0.0.1:{self.port}"

    def _serve(self) -> None:
        for speech in self._speeches:
            connection = self._accept()
            if connection is None:
                return
            with connection:
                self._speak(connection, speech)

    def _accept(self) -> socket.socket | None:
        while not self.stop.is_set():
            try:
                return self._listener.accept()[0]
            except TimeoutError:
                continue
        return None

    def _speak(self, connection: socket.socket, speech: Sequence[bytes]) -> None:
        connection.settimeout(10)
        with connection.makefile("rb") as reader:
            self.asked.append(reader.readline())
            for piece in speech:
                if not piece:
                    self.go_on.wait(10)
                    self.go_on.clear()
                    continue
                try:
                    connection.sendall(piece)
                except OSError:
                    return  # the client hung up, as some tests want
            if self._stay:
                self.stop.wait(20)


def acquisition(
    header: panda.Header, rows: bytes, count: int, reason: str = "Ok"
) -> bytes:
    """One acquisition as the box sends it."""
    block = panda.encode_block(rows)
    return panda.encode_header(header) + block + panda.encode_end(count, reason)
