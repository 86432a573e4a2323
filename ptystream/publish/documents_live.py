"""Derived-run documents on a Bluesky 0MQ bus, as JSON: never pickle.

Speaks the bus's one-frame format itself, over XPUB. Bluesky's own publisher can't
tell whether anybody listens, so what it sends first is lost unseen; and its close
waits without end when the proxy has died with documents unsent.
"""

import time
from collections.abc import Callable
from typing import Any, Self

import zmq

from ptystream.errors import ConfigError, StoppedError
from ptystream.publish.documents import DerivedRun, Document
from ptystream.publish.extras import optional
from ptystream.publish.sink import FrameCounts, RunEnd, RunInfo
from ptystream.recon.snapshot import Snapshot
from ptystream.wire.curve import ClientKeys

SEND_HWM = 1000
"""Documents that wait for a slow proxy; at more, sending fails and is counted."""

LINGER_MS = 1000
REJOIN_S = 0.5
"""A proxy that comes back has no subscribers yet: they reconnect every 0.1 s."""


class DocumentSink:
    """Sends each run's documents to a proxy's in-address (``tcp://host:port``).

    Subscribe with ``RemoteDispatcher(…, prefix=b"an", deserializer=orjson.loads)``.
    Start and stop wait ``settle_s`` for the proxy's subscription. Without one every
    call raises StoppedError: its event is lost (later ``seq_num`` tell so), a
    descriptor or stop goes first when the proxy is back, and a SinkThread repeats a
    start. ``lost`` counts the events. ``curve`` are keys of a proxy that encrypts its
    input. Raises ConfigError without the extra ``bluesky``.
    """

    name = "documents"

    def __init__(
        self,
        address: str,
        prefix: bytes = b"an",
        settle_s: float = 2.0,
        rejoin_s: float = REJOIN_S,
        clock: Callable[[], float] = time.time,
        curve: ClientKeys | None = None,
    ) -> None:
        if b" " in prefix:
            raise ConfigError(f"document prefix {prefix!r} may not contain a space")
        optional("event_model", "bluesky")
        self._encode = _json_encoder()
        self._address = address if "://" in address else f"tcp://{address}"
        self._prefix = prefix
        self._settle_s = settle_s
        self._rejoin_s = rejoin_s
        self._clock = clock
        self._curve = curve
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._socket: zmq.Socket[bytes] | None = None
        self._heard = False
        self._run: DerivedRun | None = None
        self._owed: list[Document] = []
        self.lost = 0

    def __enter__(self) -> Self:
        """Connect, so that the proxy has subscribed by the time a run starts."""
        self._opened()
        return self

    def __exit__(self, *exc: object) -> None:
        """Close."""
        self.close()

    def start(self, info: RunInfo) -> None:
        """Send the start document once somebody listens."""
        self._run = None
        run = DerivedRun(info, self._clock)
        self._send([run.start()], self._settle_s)
        self._run = run

    def update(self, snapshot: Snapshot, frames: FrameCounts) -> None:
        """Send an event, and before the first of them the descriptor."""
        if self._run is not None:
            self._send(self._run.update(snapshot, frames))

    def stop(self, snapshot: Snapshot | None, frames: FrameCounts, end: RunEnd) -> None:
        """Send the last event and the stop document."""
        run, self._run = self._run, None
        if run is not None:
            self._send(run.stop(snapshot, frames, end), self._settle_s)

    def close(self) -> None:
        """Give unsent documents a second, then drop them and disconnect."""
        if self._socket is not None and self._context is not None:
            self._socket.close(linger=LINGER_MS)
            self._context.term()
        self._socket = self._context = None
        self._heard = False
        self._owed = []

    def _opened(self) -> zmq.Socket[bytes]:
        if self._socket is None:
            self._context = zmq.Context()
            self._socket = self._context.socket(zmq.XPUB)
            self._socket.setsockopt(zmq.SNDHWM, SEND_HWM)
            # Full means an error that is counted, not a document lost unseen.
            self._socket.setsockopt(zmq.XPUB_NODROP, 1)
            # A proxy that is gone has unsubscribed: nothing waits for it unseen.
            self._socket.setsockopt(zmq.IMMEDIATE, 1)
            self._socket.setsockopt(zmq.RECONNECT_IVL_MAX, 1000)
            if self._curve is not None:
                self._curve.apply(self._socket)
            self._socket.connect(self._address)
        return self._socket

    def _listened_to(self, timeout_s: float) -> bool:
        """Take (un)subscriptions; wait for one if there is none."""
        socket, heard = self._opened(), self._heard
        timeout_ms = 0 if heard else int(1000 * timeout_s)
        while socket.poll(timeout_ms, zmq.POLLIN):
            self._heard = socket.recv().startswith(b"\x01")
            timeout_ms = 0 if self._heard else int(1000 * timeout_s)
            heard = heard and self._heard
        if self._heard and not heard:
            time.sleep(self._rejoin_s)
        return self._heard

    def _send(self, documents: list[Document], timeout_s: float = 0.0) -> None:
        """Send what is owed and these; StoppedError if that can't be now."""
        socket = self._opened()
        waiting = [*self._owed, *documents]
        self._owed = []
        if not self._listened_to(timeout_s):
            self._keep(waiting)
            raise StoppedError(
                f"no Bluesky proxy subscribed at {self._address}; {self.lost} events "
                "lost so far"
            )
        for number, (name, document) in enumerate(waiting):
            message = b" ".join([self._prefix, name.encode(), self._encode(document)])
            try:
                socket.send(message, zmq.NOBLOCK)
            except zmq.Again as error:
                self._keep(waiting[number:])
                raise StoppedError(
                    f"{SEND_HWM} documents wait for {self._address}; {self.lost} "
                    "events lost so far"
                ) from error

    def _keep(self, unsent: list[Document]) -> None:
        """Owe what frames a run, at most a descriptor and a stop; count the events.

        A start is not owed: whoever called it knows that it failed, and repeats it.
        """
        self._owed = [d for d in unsent if d[0] in ("descriptor", "stop")]
        self.lost += sum(name == "event" for name, _ in unsent)


def _json_encoder() -> Callable[[Any], bytes]:
    """Return dict -> JSON bytes; NaN and infinity become null."""
    orjson = optional("orjson", "bluesky")
    return lambda document: orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
