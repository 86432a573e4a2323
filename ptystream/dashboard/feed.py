"""What the service says, heard in a thread of its own; the newest is kept."""

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import zmq

from ptystream.dashboard.curves import Curves
from ptystream.errors import ConfigError, DecodeError, PtystreamError
from ptystream.publish.client import ControlClient
from ptystream.publish.images import Picture, decode_picture
from ptystream.wire.curve import ClientKeys

log = logging.getLogger(__name__)

TURN_MS = 200
SILENT_S = 3.0
"""Without a heartbeat (one a second) for so long, the service counts as gone."""
MAX_STATUS_BYTES = 1 << 20
MAX_PREVIEW_BYTES = 64 << 20
"""Of one part; a larger message is never allocated: its sender is disconnected."""
AT_ONCE = 64
ASK_S = 1.0
AGAIN_S = 5.0
"""Between two questions for past scans that nobody answered."""

Socket = zmq.Socket[bytes]


@dataclass(frozen=True, slots=True)
class Addresses:
    """The service's sockets, and the keys to them if they are encrypted."""

    control: str
    status: str
    preview: str
    keys: ClientKeys | None = None


@dataclass(frozen=True, slots=True)
class Heard:
    """All that is known now. ``silent_s`` is None before the first word.

    ``version`` and ``seen`` grow with each change of status and of picture.
    """

    status: Mapping[str, Any] = field(default_factory=dict)
    silent_s: float | None = None
    picture: Picture | None = None
    past: tuple[Mapping[str, Any], ...] = ()
    curves: Mapping[str, np.ndarray] = field(default_factory=dict)
    frames_per_s: float = float("nan")
    version: int = 0
    seen: int = 0
    ignored: int = 0

    @property
    def here(self) -> bool:
        """Whether the service speaks."""
        return self.silent_s is not None and self.silent_s <= SILENT_S


class Feed:
    """Subscribes to status and preview; of each, only the newest is kept.

    A service that ends and comes back is heard again without a word: ZeroMQ connects
    anew. What can't be read is counted and left out.
    """

    def __init__(
        self, addresses: Addresses, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._addresses, self._clock = addresses, clock
        self._lock = threading.Lock()
        self._curves = Curves()
        self._status: Mapping[str, Any] = {}
        self._picture: Picture | None = None
        self._past: tuple[Mapping[str, Any], ...] = ()
        self._heard_s: float | None = None
        self._version = self._seen = self._ignored = 0
        self._asked: tuple[object, object] | None = None
        self._ask_s = 0.0
        self._stopping = threading.Event()
        self.error: Exception | None = None

    def __enter__(self) -> Self:
        """Connect and listen; ConfigError if an address is none."""
        self._context: zmq.Context[Socket] = zmq.Context()
        try:
            self._sockets = [
                self._subscribed(self._addresses.status, MAX_STATUS_BYTES),
                self._subscribed(self._addresses.preview, MAX_PREVIEW_BYTES),
            ]
        except ConfigError:
            self._context.destroy(linger=0)
            raise
        self._thread = threading.Thread(target=self._run, name="feed", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop listening."""
        self._stopping.set()
        self._thread.join()
        self._context.destroy(linger=0)

    def heard(self) -> Heard:
        """Return what is known now; callable from any thread."""
        with self._lock:
            silent_s = None
            if self._heard_s is not None:
                silent_s = self._clock() - self._heard_s
            return Heard(
                self._status,
                silent_s,
                self._picture,
                self._past,
                self._curves.columns(),
                self._curves.frames_per_s,
                self._version,
                self._seen,
                self._ignored,
            )

    def _subscribed(self, address: str, most: int) -> Socket:
        sock = self._context.socket(zmq.SUB)
        sock.setsockopt(zmq.LINGER, 0)
        sock.setsockopt(zmq.RCVHWM, 4)
        sock.setsockopt(zmq.MAXMSGSIZE, most)
        sock.subscribe(b"")
        if self._addresses.keys is not None:
            self._addresses.keys.apply(sock)
        try:
            sock.connect(address)
        except zmq.ZMQError as error:
            raise ConfigError(f"can't connect to {address}: {error}") from error
        return sock

    def _run(self) -> None:
        status, preview = self._sockets
        poller = zmq.Poller()
        poller.register(status, zmq.POLLIN)
        poller.register(preview, zmq.POLLIN)
        try:
            while not self._stopping.is_set():
                poller.poll(TURN_MS)
                for parts in _waiting(status):
                    self._hear(parts)
                if newest := _waiting(preview)[-1:]:
                    self._see(newest[0])
                self._recall()
        except Exception as error:  # the top of the thread; the server sees ``error``
            self.error = error
            log.exception("the feed failed")

    def _hear(self, parts: list[bytes]) -> None:
        """Take one status message."""
        try:
            status = json.loads(parts[-1])
            if not isinstance(status, dict):
                raise ValueError("no object")
            with self._lock:
                self._curves.add(status)
                self._status, self._heard_s = status, self._clock()
                self._version += 1
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            self._ignore("status", error)

    def _see(self, parts: list[bytes]) -> None:
        """Take the newest preview."""
        try:
            picture = decode_picture(parts)
        except DecodeError as error:
            self._ignore("preview", error)
            return
        with self._lock:
            self._picture = picture
            self._seen += 1

    def _recall(self) -> None:
        """Ask for past scans when one was added, or the service is another."""
        status = self._status
        wanted = status.get("instance"), status.get("finished_scans")
        if not status or wanted == self._asked or self._clock() < self._ask_s:
            return
        try:
            at = self._addresses
            with ControlClient(at.control, ASK_S, at.keys) as client:
                scans = client.ask("past")["result"]["scans"]
        except (PtystreamError, KeyError, TypeError) as error:
            log.debug("past scans: %r", error)
            self._ask_s = self._clock() + AGAIN_S
            return
        self._asked = wanted
        with self._lock:
            self._past = tuple(scans)
            self._version += 1

    def _ignore(self, what: str, error: Exception) -> None:
        """Count what can't be read; the first is told."""
        with self._lock:
            self._ignored += 1
        if self._ignored == 1:
            log.warning("a %s message can't be read: %s", what, error)


def _waiting(sock: Socket) -> list[list[bytes]]:
    """Return what waits, at most ``AT_ONCE``."""
    found: list[list[bytes]] = []
    while len(found) < AT_ONCE and sock.poll(0):
        found.append(sock.recv_multipart())
    return found
