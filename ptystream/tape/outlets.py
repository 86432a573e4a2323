"""Where a replay sends its records: sockets that are bound, as the senders' were."""

from types import TracebackType
from typing import Literal, Protocol, Self

import zmq

from ptystream.errors import ConfigError
from ptystream.tape.format import Record
from ptystream.tape.streams import Pattern
from ptystream.wire.curve import Admission
from ptystream.wire.door import Door

Speech = Literal["pub", "push", "rep", "tcp"]
SPEECH: dict[Pattern, Speech] = {
    "sub": "pub",
    "pull": "push",
    "req": "rep",
    "tcp": "tcp",
}
"""How a stream is sent that was had in this way."""
MAX_TOPICS = 1024
"""Subscriptions remembered; more are served by zmq but not needed to know of one."""
_SOCKETS = {"pub": zmq.XPUB, "push": zmq.PUSH, "rep": zmq.REP}


class Outlet(Protocol):
    """A bound socket that a stream is replayed on.

    ``address`` may end in ``:*``; once entered it is the real one. Entering raises
    ConfigError if it can't be bound.
    """

    address: str

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def wait_for_peer(self, timeout_s: float) -> bool:
        """Wait until someone listens."""
        ...

    def send(self, record: Record) -> bool:
        """Send the record's parts; False if nobody took it in time."""
        ...

    def rewind(self) -> None:
        """Begin anew: the tape does."""
        ...


class ZmqOutlet:
    """A PUB, PUSH or REP socket; REP sends a message for each question.

    A message that finds its queue (of ``high_water`` messages) full, or no question,
    waits up to ``patience_s``, then is dropped; the caller counts it. While the queue
    stays full the next ones are dropped at once: a peer that hangs costs its patience
    once. Leaving waits up to ``linger_s`` for what is queued. With ``curve`` it serves
    only those who are listed there, encrypted.
    """

    def __init__(
        self,
        address: str,
        speech: Literal["pub", "push", "rep"] = "pub",
        *,
        high_water: int = 1000,
        patience_s: float = 1.0,
        linger_s: float = 5.0,
        curve: Admission | None = None,
    ) -> None:
        self.address = address
        self._door = Door(curve)
        self._speech = speech
        self._high_water = high_water
        self._patience_ms = round(patience_s * 1000)
        self._linger_ms = round(linger_s * 1000)
        self._topics: set[bytes] = set()
        self._full = False

    def __enter__(self) -> Self:
        if self._speech not in _SOCKETS:
            raise ConfigError(f"outlet: {self._speech!r}: expected {list(_SOCKETS)}")
        self._context = zmq.Context()
        self._socket = self._context.socket(_SOCKETS[self._speech])
        self._socket.setsockopt(zmq.SNDHWM, self._high_water)
        self._socket.setsockopt(zmq.SNDTIMEO, self._patience_ms)
        if self._speech == "pub":
            self._socket.setsockopt(zmq.XPUB_NODROP, 1)
        self._door.open(self._context)
        self._door.guard(self._socket)
        try:
            self._socket.bind(self.address)
        except zmq.ZMQError as e:
            self._socket.close(linger=0)
            self._door.close()
            self._context.term()
            raise ConfigError(f"outlet {self.address!r}: {e}") from e
        self.address = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close(linger=self._linger_ms)
        self._door.close()
        self._context.term()

    def wait_for_peer(self, timeout_s: float) -> bool:
        """Wait until someone subscribes (pub), pulls (push) or asks (rep)."""
        timeout_ms = round(timeout_s * 1000)
        if self._speech != "pub":
            event = zmq.POLLOUT if self._speech == "push" else zmq.POLLIN
            return bool(self._socket.poll(timeout_ms, event))
        return self._heard() or (
            bool(self._socket.poll(timeout_ms, zmq.POLLIN)) and self._heard()
        )

    def send(self, record: Record) -> bool:
        """Send the record's parts; False if nobody took it in time."""
        if self._speech == "pub" and not self._heard():
            return False
        if self._speech == "rep" and not self._asked():
            return False
        try:
            flags = zmq.NOBLOCK if self._full else 0
            self._socket.send_multipart(record.parts, flags)
        except zmq.Again:
            self._full = True
            return False
        self._full = False
        return True

    def rewind(self) -> None:
        """Go on: messages need no beginning."""

    def _asked(self) -> bool:
        self._full = not self._socket.poll(0 if self._full else self._patience_ms)
        if self._full:
            return False
        self._socket.recv_multipart()
        return True

    def _heard(self) -> bool:
        """Take in who subscribed and who left; tell whether anyone is there."""
        while self._socket.poll(0, zmq.POLLIN):
            change = self._socket.recv()
            if change[:1] == b"\x01" and len(self._topics) < MAX_TOPICS:
                self._topics.add(change[1:])
            elif change[:1] == b"\x00":
                self._topics.discard(change[1:])
        return bool(self._topics)
