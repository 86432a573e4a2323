"""The other end of the control socket: for the command line, plans and tests."""

import json
import time
from types import TracebackType
from typing import Any, Self

import zmq

from ptystream.errors import ConfigError, DecodeError, StoppedError


class ControlClient:
    """Asks a running service; one request at a time, from one thread.

    Requests carry an id, so a reply that comes late is never taken for another's.
    """

    def __init__(self, address: str, timeout_s: float = 5.0) -> None:
        self._address = address
        self._timeout_s = timeout_s
        self._number = 0

    def __enter__(self) -> Self:
        """Connect; a service that is not there shows at the first request."""
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
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
        self._socket.close()
        self._context.term()

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
        )


def _decode(parts: list[bytes]) -> dict[str, Any]:
    try:
        reply = json.loads(parts[-1])
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"control reply of {len(parts)} parts: {error}") from error
    if not isinstance(reply, dict):
        raise DecodeError(f"control reply is a {type(reply).__name__}, not an object")
    return reply
