"""The door of a CURVE server: at each handshake it looks the client's key up."""

import logging
from typing import Any

import zmq
from zmq.auth.thread import ThreadAuthenticator

from ptystream.wire.curve import Admission

log = logging.getLogger(__name__)

DOMAIN = "ptystream"


class Door:
    """Answers ZeroMQ's question who may connect, for all sockets of one context.

    Without an ``admission`` all may, unencrypted. With one, nobody new is let in while
    the door is closed, or if its thread should die. ``refused`` counts those who were
    turned away by key; who speaks no CURVE at all never gets so far.
    """

    def __init__(self, admission: Admission | None) -> None:
        self._admission = admission
        self._zap: ThreadAuthenticator | None = None
        self.refused = 0

    def open(self, context: zmq.Context[Any]) -> None:
        """Begin to answer for a context, before a socket of it binds."""
        if self._admission is not None:
            self._zap = ThreadAuthenticator(context)
            self._zap.configure_curve_callback(DOMAIN, self)
            self._zap.start()

    def close(self) -> None:
        """Let nobody new in; to be called before the context is destroyed."""
        if self._zap is not None:
            if not self._zap.is_alive():  # stop() would wait for it for ever
                self._zap.pipe.close()
                self._zap.pipe = None  # type: ignore[assignment]
            self._zap.stop()
            self._zap = None

    def alive(self) -> bool:
        """Tell whether it answers, or has no need to."""
        return self._zap is None or self._zap.is_alive()

    def guard(self, socket: zmq.Socket[Any]) -> None:
        """Make a socket, not yet bound, one that only those listed can connect to."""
        if self._admission is None:
            return
        self._admission.keys.apply(socket)
        socket.zap_domain = DOMAIN.encode()
        # Else ZeroMQ lets everybody in while nobody answers at the door.
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)

    def callback(self, _domain: str, public: bytes) -> bool:
        """Tell whether a key is listed; called by the authenticator, in its thread."""
        key = public.decode("ascii")
        if self._admission is not None and self._admission.admits(key):
            return True
        self.refused += 1
        if str(self.refused).rstrip("0") == "1":
            log.warning("handshake %d refused: key %s is not listed", self.refused, key)
        return False


def sender_of(frame: zmq.Frame) -> str:
    """Return the public key of who sent a frame; empty if it came through no door."""
    try:
        return str(frame.get("User-Id"))
    except zmq.ZMQError:
        return ""
