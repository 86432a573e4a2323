"""The other end of the control socket: for the command line, plans and tests."""

import json
import time
from types import TracebackType
from typing import Any, Self

import zmq
from zmq.utils.monitor import recv_monitor_message

from ptystream.errors import ConfigError, DecodeError, StoppedError
from ptystream.wire.curve import REFUSED, ClientKeys


class Handshakes:
    """Tells whether a socket, not yet connected, was refused: wrong keys, or none.

    Its context must be destroyed, not only the socket closed.
    """

    def __init__(self, socket: zmq.Socket[bytes]) -> None:
        self._events = socket.get_monitor_socket(REFUSED)
        self.failed = False

    def hint(self) -> str:
        """Return what to add to a message that nothing came; empty if nothing."""
        while self._events.poll(0):
            recv_monitor_message(self._events)
            self.failed = True
        return ": it refused the handshake; are the keys right?" * self.failed


class ControlClient:
    """Asks a running service; one request at a time, from one thread.

    Requests carry an id, so a reply that comes late is never taken for another's.
    ``keys`` are for a service with ``publish.curve``.
    """

    def __init__(
        self, address: str, timeout_s: float = 5.0, keys: ClientKeys | None = None
    ) -> None:
        self._address = address
        self._keys = keys
        self._timeout_s = timeout_s
        self._number = 0

    def __enter__(self) -> Self:
        """Connect; a service that is not there shows at the first request."""
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        if self._keys is not None:
            self._keys.apply(self._socket)
        self._handshakes = Handshakes(self._socket)
        try:
            self._socket.connect(self._address)
        except zmq.ZMQError as error:
            self._context.destroy(linger=0)
            raise ConfigError(f"can't connect to {self._address}: {error}") from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Disconnect; a request that was not sent is dropped."""
        self._context.destroy(linger=0)

    def ask(self, cmd: str, /, **args: Any) -> dict[str, Any]:
        """Return the reply: ``ok`` with ``result``, or not ok with ``error``.

        Raises StoppedError when no reply comes in time, DecodeError when it is
        no JSON object.
        """
        self._number += 1
        request = {"cmd": cmd, "id": self._number, "args": args}
        self._socket.send(json.dumps(request).encode())
        deadline_s = time.monotonic() + self._timeout_s
        while (left_s := deadline_s - time.monotonic()) > 0:
            if not self._socket.poll(int(1000 * left_s) + 1):
                break
            reply = _decode(self._socket.recv_multipart())
            if reply.get("id") in (self._number, None):
                return reply
        raise StoppedError(
            f"no reply to {cmd!r} from {self._address} in {self._timeout_s} s"
            f"{self._handshakes.hint()}"
        )


def _decode(parts: list[bytes]) -> dict[str, Any]:
    try:
        reply = json.loads(parts[-1])
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"control reply of {len(parts)} parts: {error}") from error
    if not isinstance(reply, dict):
        raise DecodeError(f"control reply is a {type(reply).__name__}, not an object")
    return reply
