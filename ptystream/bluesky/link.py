"""A RunEngine's line to the service: status as it comes, requests one at a time.

Lives in the event loop in which ``connect`` is called. Status and replies carry the
service's ``instance`` and a ``seq`` that grows: what is older than what is known is
dropped, so that a message still under way can never speak for a later run.
"""

import asyncio
import json
import logging
from collections.abc import Callable, Mapping
from typing import Any

import zmq
import zmq.asyncio

from ptystream.bluesky.peer import Peer
from ptystream.errors import ConfigError, DecodeError, StoppedError
from ptystream.wire.curve import ClientKeys

log = logging.getLogger(__name__)

HEARTBEAT_S = 5.0
"""A service that can't be reached for so long is lost."""
SILENT_S = 30.0
"""One that speaks once a second, is there, but says nothing for so long, is lost."""
MAX_MESSAGE_BYTES = 1 << 20

Status = Mapping[str, Any]
Listener = Callable[[Status], None]


class ServiceLink:
    """Subscribes to status and asks over the control socket.

    ``latest`` is the newest status, ``stale`` counts what came too late to matter.
    Listeners are called in the loop, at each new status and when the line is lost:
    after ``heartbeat_s`` if the service's process is gone (half as much later if it
    vanished without a word), after ``silent_s`` if it is there but says nothing.
    ``keys`` are for a service with ``publish.curve``.
    """

    def __init__(
        self,
        control: str,
        status: str,
        heartbeat_s: float = HEARTBEAT_S,
        silent_s: float = SILENT_S,
        keys: ClientKeys | None = None,
    ) -> None:
        self.control, self.status = control, status
        self._keys = keys
        self._patience_s = heartbeat_s, silent_s
        self.latest: Status | None = None
        self.stale = 0
        self.lost = False
        self._seq = 0
        self._instance = self._gone = ""
        self._listeners: list[Listener] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._peer: Peer | None = None
        self._news = asyncio.Event()
        self._number = 0

    async def connect(self, timeout_s: float) -> None:
        """Connect, and return once a status came.

        Raises:
            StoppedError: none came in time; nothing is left connected.
        """
        if self._peer is None:
            self._context, self._news = zmq.asyncio.Context(), asyncio.Event()
            socket = self._subscriber()
            peer = self._peer = Peer(socket, *self._patience_s)
            socket.connect(self.status)
            work = (peer.watch(), self._pump(socket, peer))
            self._tasks = [asyncio.create_task(part) for part in work]
        try:
            await self.newer(0, timeout_s)
        except StoppedError:
            await self.close()
            raise

    async def close(self) -> None:
        """Disconnect; a status that comes later is not seen."""
        tasks, self._tasks, self._peer = self._tasks, [], None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if tasks:
            self._context.destroy(linger=0)

    def listen(self, listener: Listener) -> None:
        """Have it called at each new status, and when the line is lost or back."""
        self._listeners.append(listener)

    def unlisten(self, listener: Listener) -> None:
        """Call it no more."""
        self._listeners.remove(listener)

    @property
    def count(self) -> int:
        """How many statuses were taken so far."""
        return self._number

    async def newer(self, than: int, timeout_s: float | None = None) -> int:
        """Wait until more statuses than so many were taken; return how many.

        Raises:
            StoppedError: nothing came within ``timeout_s``, by default until the line
                is lost.
        """
        peer = self._connected()
        while self._number <= than:
            try:
                await peer.said(self._news.wait(), timeout_s)
            except TimeoutError as error:
                raise StoppedError(
                    f"no status from the service at {self.status} {error}"
                ) from None
        return self._number

    async def ask(
        self, cmd: str, timeout_s: float | None = None, **args: Any
    ) -> dict[str, Any]:
        """Return what a request results in.

        Raises:
            StoppedError: no reply came in time, by default until the service is lost.
            ConfigError: the service refused; its own words say why.
        """
        peer = self._connected()
        # A socket for each: the reply to a request that was given up finds nobody.
        with self._context.socket(zmq.DEALER) as socket:
            socket.setsockopt(zmq.LINGER, 0)
            socket.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES)
            if self._keys is not None:
                self._keys.apply(socket)
            socket.connect(self.control)
            await socket.send(json.dumps({"cmd": cmd, "id": 1, "args": args}).encode())
            try:
                parts = await peer.said(socket.recv_multipart(), timeout_s)
            except TimeoutError as error:
                raise StoppedError(
                    f"no reply to {cmd!r} from the service at {self.control} {error}"
                ) from None
        reply = _object(parts[-1])
        if not reply.get("ok"):
            raise ConfigError(f"the service refused {cmd!r}: {reply.get('error')}")
        self._heed(reply)
        return reply.get("result") or {}

    def _connected(self) -> Peer:
        """Return who is at the other end; ConfigError before ``connect``."""
        if self._peer is None:
            raise ConfigError(f"the line to {self.status} is not connected")
        return self._peer

    def _subscriber(self) -> zmq.asyncio.Socket:
        socket = self._context.socket(zmq.SUB)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, 1000)
        if self._keys is not None:
            self._keys.apply(socket)
        socket.subscribe(b"")
        return socket

    async def _pump(self, socket: zmq.asyncio.Socket, peer: Peer) -> None:
        """Take statuses for as long as the line is open."""
        while True:
            try:
                parts = await peer.said(socket.recv_multipart())
                self._take(_object(parts[-1]))
            except TimeoutError as error:
                self._lose(str(error))
            except (DecodeError, KeyError, TypeError, ValueError) as error:
                log.warning("status from %s left out: %s", self.status, error)

    def _take(self, status: dict[str, Any]) -> None:
        """Take a status unless a newer one is known."""
        if not self._heed(status):
            self.stale += 1
            return
        self.latest, self.lost = status, False
        self._number += 1
        self._news.set()
        self._news = asyncio.Event()
        self._tell(status)

    def _heed(self, message: Mapping[str, Any]) -> bool:
        """Note what a message says of the order; False if it is old."""
        instance, seq = str(message["instance"]), int(message["seq"])
        if instance == self._gone or (instance == self._instance and seq <= self._seq):
            return False
        if instance != self._instance:
            self._gone, self._instance = self._instance, instance
        self._seq = seq
        return True

    def _lose(self, why: str) -> None:
        if self.latest is not None and not self.lost:
            self.lost = True
            log.warning("no status from %s %s", self.status, why)
            self._tell(self.latest)

    def _tell(self, status: Status) -> None:
        for listener in tuple(self._listeners):
            listener(status)


def _object(body: bytes) -> dict[str, Any]:
    """Parse a JSON object; DecodeError if it is none."""
    try:
        message = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"{len(body)} bytes that are no JSON: {error}") from error
    if not isinstance(message, dict):
        raise DecodeError(f"a {type(message).__name__}, not an object")
    return message
