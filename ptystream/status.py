"""What the service says of itself: its status, and HTTP for Prometheus and probes."""

import json
import logging
import math
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from ptystream import __version__
from ptystream.errors import ConfigError
from ptystream.publish.runner import SinkStats
from ptystream.publish.sink import FrameCounts
from ptystream.recon.snapshot import Quality

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 8
"""More at once are answered 503 without a thread."""

DEADLINE_S = 5.0
"""For a whole request: a client that trickles bytes is cut off."""

_TOO_MANY = b"HTTP/1.0 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"

Checks = Callable[[], Mapping[str, bool]]
"""Named checks, from any thread, without waiting; all true means well."""


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """The service at one moment, as control replies and status messages show it.

    ``raw_uid`` is the Bluesky run that the scan belongs to, ``armed`` the one that
    waits for its scan, ``last`` how the last scan ended, ``stack`` the snapshots in one
    file. ``settings`` are those that a record of the run should name. ``geometry``
    holds the run's values and their ``origins``, empty between runs. ``started_s`` is
    the run's wall time. ``message_age_s`` counts per stream since its last message;
    NaN before the first. ``lag_s`` is from a frame's arrival until it could be trained
    on, of the newest frame. ``health`` are faults found in the data.
    ``ignored_exposures`` came after their run was stopped, or could not be used, since
    the service began.
    """

    state: str
    run: str | None = None
    scan: str | None = None
    raw_uid: str | None = None
    armed: str | None = None
    last: Mapping[str, Any] | None = None
    stack: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    geometry: Mapping[str, Any] = field(default_factory=dict)
    started_s: float | None = None
    step: int = 0
    exposures: int = 0
    frames: FrameCounts = field(default_factory=FrameCounts)
    quality: Quality = field(default_factory=Quality)
    health: Sequence[Mapping[str, Any]] = ()
    steps_per_s: float = float("nan")
    message_age_s: Mapping[str, float] = field(default_factory=dict)
    lag_s: float = float("nan")
    finished_scans: int = 0
    ignored_exposures: int = 0
    sinks: tuple[SinkStats, ...] = ()
    detail: str = ""
    version: str = __version__

    def as_dict(self) -> dict[str, Any]:
        """Return it JSON-safe: what is not finite becomes None."""
        return _finite(asdict(self))


class StatusServer:
    """Serves /metrics, /healthz (all alive) and /readyz (all ready); GET only.

    On loopback unless told otherwise; port 0 takes a free one. A failed check is
    503 and named in the body.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        alive: Checks,
        ready: Checks,
        host: str = "127.0.0.1",
        port: int = 0,
        deadline_s: float = DEADLINE_S,
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        self._registry = registry
        self._checks = {"/healthz": alive, "/readyz": ready}
        self._bind = (host, port)
        self._deadline_s = deadline_s
        self._max_connections = max_connections

    def __enter__(self) -> Self:
        """Bind and serve; ConfigError if the address can't be bound."""
        try:
            self._server = _Server(
                self._bind, self._answer, self._deadline_s, self._max_connections
            )
        except OSError as error:
            raise ConfigError(f"can't serve HTTP on {self._bind}: {error}") from error
        self._thread = threading.Thread(
            target=self._server.serve_forever,
            kwargs={"poll_interval": 0.1},
            name="status",
            daemon=True,
        )
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        """Stop serving; requests under way are cut off."""
        self._server.shutdown()
        self._thread.join()
        self._server.cut_off(overdue_only=False)
        self._server.server_close()

    @property
    def address(self) -> str:
        """``http://host:port``, with the port that was bound."""
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}"

    def alive(self) -> bool:
        """Tell whether the thread runs."""
        return self._thread.is_alive()

    def _answer(self, path: str) -> tuple[HTTPStatus, str, bytes]:
        if path == "/metrics":
            return HTTPStatus.OK, CONTENT_TYPE_LATEST, generate_latest(self._registry)
        checks = self._checks.get(path)
        if checks is None:
            return HTTPStatus.NOT_FOUND, "text/plain", b"not found\n"
        results = dict(checks())
        well = all(results.values())
        body = json.dumps({"ok": well, "checks": results}).encode()
        status = HTTPStatus.OK if well else HTTPStatus.SERVICE_UNAVAILABLE
        return status, "application/json", body


class _Server(ThreadingHTTPServer):
    """One thread per connection, few connections, each with a deadline."""

    daemon_threads = False  # so that server_close waits for them
    request_queue_size = 16

    def __init__(
        self,
        address: tuple[str, int],
        answer: Callable[[str], tuple[HTTPStatus, str, bytes]],
        deadline_s: float,
        max_connections: int,
    ) -> None:
        self.answer = answer
        self.deadline_s = deadline_s
        self._max_connections = max_connections
        self._lock = threading.Lock()
        self._open: dict[Any, float] = {}
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Start a thread, or answer 503 when all are taken."""
        with self._lock:
            full = len(self._open) >= self._max_connections
            if not full:
                self._open[request] = time.monotonic() + self.deadline_s
        if not full:
            super().process_request(request, client_address)
            return
        try:
            request.setblocking(False)
            request.send(_TOO_MANY)
        except OSError as error:
            log.debug("a refused connection: %s", error)
        self.shutdown_request(request)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection and free its place."""
        super().shutdown_request(request)
        with self._lock:
            self._open.pop(request, None)

    def service_actions(self) -> None:
        """Cut off what is overdue; called ten times a second."""
        self.cut_off()

    def cut_off(self, overdue_only: bool = True) -> None:
        """End connections, so that their threads end."""
        now_s = time.monotonic()
        with self._lock:
            chosen = [r for r, due in self._open.items() if now_s > due]
            chosen = chosen if overdue_only else list(self._open)
        for request in chosen:
            try:
                request.shutdown(socket.SHUT_RDWR)
            except OSError as error:
                log.debug("a connection that had gone: %s", error)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log a client that went away, rather than print it."""
        log.debug("HTTP request from %s failed", client_address, exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    server: _Server  # type: ignore[assignment]
    server_version = "ptystream"
    sys_version = ""

    def setup(self) -> None:
        """Bound each read and write as well."""
        super().setup()
        self.connection.settimeout(self.server.deadline_s)

    def do_GET(self) -> None:
        """Answer; whatever a check raises is a 500, logged."""
        try:
            status, kind, body = self.server.answer(self.path.partition("?")[0])
        except Exception:  # the top of the thread
            log.exception("GET %s failed", self.path)
            status, kind, body = (
                HTTPStatus.INTERNAL_SERVER_ERROR,
                "text/plain",
                b"failed\n",
            )
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Keep requests out of the log; probes come every few seconds."""
        log.debug(format, *args)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return value
