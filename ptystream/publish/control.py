"""The service's own sockets: control requests, status, preview; one thread owns them.

ZeroMQ sockets belong to one thread. Other threads hand over through a flag (status)
and a latest-wins slot of one (preview), so none of them ever waits here.
"""

import logging
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import zmq

from ptystream.errors import ConfigError, DecodeError, PtystreamError
from ptystream.publish.exposure import check_reach
from ptystream.publish.images import Picture, encode_picture
from ptystream.publish.ipc import SocketFile, check_unused
from ptystream.publish.requests import Command, Request, decode_request, encode
from ptystream.wire.curve import Admission
from ptystream.wire.door import Door, sender_of

log = logging.getLogger(__name__)

LOOPBACK = "tcp://127.0.0.1:0"
HEARTBEAT_S = 1.0
MIN_INTERVAL_S = 0.02
"""Between two status messages, however often the state changes."""

REQUESTS_PER_TURN = 64
"""Then status and preview get their turn: a flood of requests can't starve them."""

MAX_MESSAGE_BYTES = 1 << 20
"""A larger request is never allocated: its sender is disconnected."""

SLOW_COMMAND_S = 0.5
SOCKETS = "publish.control", "publish.status", "publish.preview"
EXPECTED = "loopback, keys (publish.curve), or publish.insecure = true"
LOOKS = frozenset({"ping", "status", "commands"})
"""Commands that change nothing: readers may ask them too."""

Socket = zmq.Socket[bytes]


@dataclass(frozen=True, slots=True)
class ControlStats:
    """``seq`` of the last message sent; requests answered ok, and refused.

    ``turned_away`` counts handshakes with a key that isn't listed.
    """

    seq: int
    answered: int
    refused: int
    previews: int
    turned_away: int


class ControlServer:
    """Answers requests, publishes status (1 Hz and on change) and the newest preview.

    ``status`` returns the service's state, JSON-safe, with at least run, scan and
    state; it is called in this thread and must be quick. Every message carries
    ``instance`` (this server) and ``seq``, which grows by one: what has a smaller
    seq of the same instance is older. Newcomers get status and preview at once.

    With ``curve`` all three sockets are encrypted and open to those listed there; its
    readers get no further than the commands in ``looks``. Without, all who reach them
    may command, so they are bound on loopback only, unless ``insecure``.
    """

    def __init__(
        self,
        commands: Mapping[str, Command],
        status: Callable[[], Mapping[str, Any]],
        control_address: str = LOOPBACK,
        status_address: str = LOOPBACK,
        preview_address: str = LOOPBACK,
        heartbeat_s: float = HEARTBEAT_S,
        *,
        curve: Admission | None = None,
        insecure: bool = False,
        looks: Iterable[str] = (),
    ) -> None:
        """Store; ConfigError for an address that other machines reach unencrypted."""
        self._addresses = (control_address, status_address, preview_address)
        for what, address in zip(SOCKETS, self._addresses, strict=True):
            if curve is None:
                check_reach(what, address, insecure=insecure, instead=EXPECTED)
        self._curve = curve
        self._door = Door(curve)
        self._looks = LOOKS.union(looks)
        self.instance = uuid.uuid4().hex
        self._status = status
        self._commands: dict[str, Command] = {
            "ping": lambda args: None,
            "status": lambda args: dict(self._status()),
            "commands": lambda args: {"commands": sorted(self._commands)},
            **commands,
        }
        self._heartbeat_s = heartbeat_s
        self._lock = threading.Lock()
        self._changed = True
        self._picture: Picture | None = None
        self._fresh = False
        self._stopping = False
        self._seq = self._answered = self._refused = self._previews = 0
        self._sent_s = -float("inf")
        self.error: Exception | None = None

    def __enter__(self) -> Self:
        """Bind and start; ConfigError if an address can't be bound."""
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_in.setblocking(False)
        self._wake_out.setblocking(False)
        self._context: zmq.Context[Socket] = zmq.Context()
        self._door.open(self._context)
        try:
            self._bind()
        except ConfigError:
            self._release()
            raise
        self._thread = threading.Thread(target=self._run, name="control", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        """Publish the last state, unbind."""
        self._stopping = True
        self._nudge()
        self._thread.join(5.0)
        if self._thread.is_alive():
            log.error("control thread hangs in a command: left behind")
            return
        self._release()

    @property
    def control_address(self) -> str:
        """Where requests go, with the port that was bound."""
        return self._bound[0]

    @property
    def status_address(self) -> str:
        """Where status is published, with the port that was bound."""
        return self._bound[1]

    @property
    def preview_address(self) -> str:
        """Where previews are published, with the port that was bound."""
        return self._bound[2]

    def alive(self) -> bool:
        """Tell whether the thread runs, and the door's if there are keys."""
        return self._thread.is_alive() and self._door.alive()

    def changed(self) -> None:
        """Have the status published now rather than at the next heartbeat."""
        with self._lock:
            self._changed = True
        self._nudge()

    def show(self, picture: Picture) -> None:
        """Publish the newest preview; one that still waits is replaced."""
        with self._lock:
            self._picture, self._fresh = picture, True
        self._nudge()

    def stats(self) -> ControlStats:
        """Return the counts so far."""
        return ControlStats(
            self._seq,
            self._answered,
            self._refused,
            self._previews,
            self._door.refused,
        )

    def _bind(self) -> None:
        self._router = self._context.socket(zmq.ROUTER)
        self._router.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES)
        # XPUB tells when somebody subscribes. Two previews wait for a slow one.
        self._status_pub = self._context.socket(zmq.XPUB)
        self._preview_pub = self._context.socket(zmq.XPUB)
        self._preview_pub.setsockopt(zmq.SNDHWM, 2)
        bound: list[str] = []
        self._files: list[SocketFile] = []
        self._sockets = (self._router, self._status_pub, self._preview_pub)
        for sock, address in zip(self._sockets, self._addresses, strict=True):
            sock.setsockopt(zmq.LINGER, 200)
            self._door.guard(sock)
            if sock.type == zmq.XPUB:
                sock.setsockopt(zmq.XPUB_VERBOSE, 1)
                sock.setsockopt(zmq.MAXMSGSIZE, 1024)
            check_unused(address)
            try:
                sock.bind(address)
            except zmq.ZMQError as error:
                raise ConfigError(f"can't bind {address}: {error}") from error
            bound.append(sock.get_string(zmq.LAST_ENDPOINT).rstrip("\0"))
            file = SocketFile.of(bound[-1])
            self._files += [file] if file is not None else []
        self._bound = tuple(bound)

    def _release(self) -> None:
        # First: a client that a shut door turns away would not come again.
        for sock in self._sockets:
            sock.close(linger=200)
        for file in self._files:
            file.remove()
        self._door.close()
        self._context.destroy(linger=200)
        self._wake_in.close()
        self._wake_out.close()

    def _nudge(self) -> None:
        try:
            self._wake_in.send(b"x")
        except BlockingIOError:
            pass  # full of wake-ups already
        except OSError:
            log.debug("control is closed")

    def _run(self) -> None:
        poller = zmq.Poller()
        for sock in (self._router, self._status_pub, self._preview_pub, self._wake_out):
            poller.register(sock, zmq.POLLIN)
        try:
            while not self._stopping:
                poller.poll(self._wait_ms())
                self._turn()
            self._changed = True
            self._sent_s = -float("inf")
            self._turn()
        except Exception as error:  # the top of the thread; the service sees ``error``
            self.error = error
            log.exception("control thread failed")

    def _wait_ms(self) -> int:
        due_s = MIN_INTERVAL_S if self._changed else self._heartbeat_s
        left_s = self._sent_s + due_s - time.monotonic()
        return int(1000 * min(max(left_s, 0.0), self._heartbeat_s)) + 1

    def _turn(self) -> None:
        self._drain_nudges()
        if self._newcomers(self._status_pub):
            self._changed = True
        if self._newcomers(self._preview_pub):
            self._fresh = True
        for _ in range(REQUESTS_PER_TURN):
            if not self._router.poll(0):
                break
            self._serve(self._router.recv_multipart(copy=False))
        self._publish_status()
        self._publish_preview()

    def _drain_nudges(self) -> None:
        try:
            self._wake_out.recv(4096)
        except BlockingIOError:
            return

    def _newcomers(self, sock: Socket) -> bool:
        """Take the waiting subscriptions, a bounded number; True if there were any."""
        found = False
        for _ in range(REQUESTS_PER_TURN):
            if not sock.poll(0):
                break
            found = sock.recv().startswith(b"\x01") or found
        return found

    def _publish_status(self) -> None:
        now_s = time.monotonic()
        since_s = now_s - self._sent_s
        with self._lock:
            if since_s < (MIN_INTERVAL_S if self._changed else self._heartbeat_s):
                return
            self._changed = False
        self._sent_s = now_s
        self._status_pub.send(
            encode({**self._status(), **self._stamp(), "time": time.time()})
        )

    def _publish_preview(self) -> None:
        with self._lock:
            picture, fresh = self._picture, self._fresh
            self._fresh = False
        if picture is not None and fresh:
            self._preview_pub.send_multipart(encode_picture(picture, self._stamp()))
            self._previews += 1

    def _stamp(self) -> dict[str, Any]:
        self._seq += 1
        return {"instance": self.instance, "seq": self._seq}

    def _serve(self, frames: list[zmq.Frame]) -> None:
        identity, *body = (frame.bytes for frame in frames)
        envelope = [identity, b""] if len(body) == 2 and not body[0] else [identity]
        try:
            request = decode_request(body)
        except DecodeError as error:
            self._refused += 1
            reply = encode(self._reply(None, {"ok": False, "error": str(error)}))
        else:
            reply = self._answer(request, self._may_command(frames[-1]))
        self._router.send_multipart([*envelope, reply])

    def _may_command(self, frame: zmq.Frame) -> bool:
        """Tell whether who sent a frame may do more than look."""
        return self._curve is None or sender_of(frame) in self._curve.controllers

    def _answer(self, request: Request, may_command: bool) -> bytes:
        began_s = time.monotonic()
        try:
            command = self._command(request.cmd)
            if not may_command and request.cmd not in self._looks:
                raise ConfigError(f"{request.cmd}: this key may only look")
            result = dict(command(request.args) or {})
            reply = encode(self._reply(request.id, {"ok": True, "result": result}))
            self._answered += 1
        except Exception as error:  # whatever a command does, the service lives on
            if not isinstance(error, PtystreamError):
                log.error("command %s failed", request.cmd, exc_info=error)
            text = str(error) or type(error).__name__
            reply = encode(self._reply(request.id, {"ok": False, "error": text}))
            self._refused += 1
        if time.monotonic() - began_s > SLOW_COMMAND_S:
            log.warning("command %s took more than %s s", request.cmd, SLOW_COMMAND_S)
        self._changed = True
        return reply

    def _command(self, name: str) -> Command:
        try:
            return self._commands[name]
        except KeyError:
            known = ", ".join(sorted(self._commands))
            raise DecodeError(f"unknown command {name!r}, expected {known}") from None

    def _reply(self, request_id: object, rest: Mapping[str, Any]) -> dict[str, Any]:
        """Return a reply with the state as it is after the command."""
        status = self._status()
        state = {key: status.get(key) for key in ("run", "scan", "state")}
        return {"id": request_id, **self._stamp(), **state, **rest}
