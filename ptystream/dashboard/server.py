"""The dashboard's process: the feed, Bokeh's server, and who may come in."""

import logging
import socket
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any, Self

from bokeh.application import Application
from bokeh.application.handlers.function import FunctionHandler
from bokeh.document import Document
from bokeh.server.server import BaseServer
from bokeh.server.tornado import BokehTornado
from tornado.httpserver import HTTPServer
from tornado.ioloop import IOLoop, PeriodicCallback
from tornado.web import StaticFileHandler

from ptystream.dashboard.feed import Addresses, Feed, Heard
from ptystream.dashboard.guard import Guard, names_of
from ptystream.dashboard.scene import Scene, scene
from ptystream.dashboard.session import PAGE, Session, page
from ptystream.dashboard.web import (
    MAX_BODY_BYTES,
    ORDERS,
    Desk,
    OrderHandler,
    StateHandler,
)
from ptystream.errors import ConfigError, StoppedError
from ptystream.publish.client import ControlClient

log = logging.getLogger(__name__)

ASK_S = 3.0
WATCH_MS = 200
LINGER_MS = 5000
"""A session that no browser holds is forgotten after so long."""
MAX_MESSAGE_BYTES = 1 << 20
"""From a browser: it sends ranges of a plot, and no more."""


class Dashboard:
    """Serves the page on ``host:port`` until ``stop`` is set.

    ``sessions`` is how many pages may watch at once; who comes later is told so.
    ``origins`` are further ``HOST:PORT`` by which browsers may call the page, behind a
    proxy say. ``token`` None: nobody may hold, resume, save or stop.
    """

    def __init__(
        self,
        addresses: Addresses,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        token: str | None = None,
        origins: Sequence[str] = (),
        sessions: int = 16,
    ) -> None:
        self._addresses, self._host, self._port = addresses, host, port
        self._token, self._origins, self._most = token, origins, sessions
        self._boot = uuid.uuid4().hex
        self._feed = Feed(addresses)
        self._open: set[str] = set()
        self._scene: tuple[int, Scene | None] = 0, None
        self.refused = 0
        """Pages that came when all places were taken."""

    def __enter__(self) -> Self:
        """Connect and bind; ConfigError if that can't be."""
        with ExitStack() as stack:
            stack.enter_context(self._feed)
            executor = ThreadPoolExecutor(1, "orders")
            stack.callback(executor.shutdown)
            self._loop = IOLoop(make_current=True)
            stack.callback(self._loop.close)
            self._server = self._made(executor)
            stack.callback(self._server.stop)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Unbind and disconnect."""
        self._stack.close()

    @property
    def address(self) -> str:
        """Return the page's URL, with the port that was bound."""
        host = "127.0.0.1" if self._host in ("", "0.0.0.0") else self._host
        return f"http://{host}:{self._bound}/"

    def run(self, stop: Any) -> None:
        """Serve until the event is set; StoppedError if the feed dies."""

        def watch() -> None:
            if stop.is_set() or self._feed.error is not None:
                self._loop.stop()

        watching = PeriodicCallback(watch, WATCH_MS)
        watching.start()
        self._server.start()
        self._loop.start()
        watching.stop()
        if self._feed.error is not None:
            raise StoppedError(f"the feed: {self._feed.error!r}")

    def _made(self, executor: ThreadPoolExecutor) -> BaseServer:
        """Bind, then build the server: its names hold the port."""
        try:
            family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
            listening = socket.create_server(
                (self._host.strip("[]"), self._port), family=family
            )
        except OSError as error:
            where = f"{self._host}:{self._port}"
            raise ConfigError(f"can't serve the page on {where}: {error}") from error
        listening.setblocking(False)
        self._bound = listening.getsockname()[1]
        names = names_of(self._host, self._bound, self._origins)
        guard = Guard(self._token, names)
        desk = Desk(self._feed.heard, guard, self._ask, executor, self._boot)
        tornado = BokehTornado(
            {"/": Application(FunctionHandler(self._fill))},
            extra_websocket_origins=names,
            extra_patterns=[
                ("/state", StateHandler, {"desk": desk}),
                (f"/order/({'|'.join(ORDERS)})", OrderHandler, {"desk": desk}),
                ("/assets/(.*)", StaticFileHandler, {"path": str(PAGE / "assets")}),
            ],
            use_index=False,
            websocket_max_message_size_bytes=MAX_MESSAGE_BYTES,
            unused_session_lifetime_milliseconds=LINGER_MS,
            check_unused_sessions_milliseconds=1000,
        )
        http = HTTPServer(tornado, max_body_size=MAX_BODY_BYTES)
        http.add_sockets([listening])
        return BaseServer(self._loop, tornado, http)

    def _ask(self, command: str, **args: object) -> dict[str, Any]:
        """Ask the service; blocks for at most ``ASK_S``."""
        at = self._addresses
        with ControlClient(at.control, ASK_S, at.keys) as client:
            return client.ask(command, **args)

    def _fill(self, document: Document) -> None:
        """Fill the document of a new page, or tell it that all places are taken."""
        context = document.session_context
        who = context.id if context is not None else ""
        if len(self._open) >= self._most:
            self.refused += 1
            document.title = "ptystream: full"
            document.template = page("full.html")
            document.template_variables.update(most=self._most)
            return
        self._open.add(who)
        document.on_session_destroyed(lambda _: self._open.discard(who))
        Session(self._feed.heard, self._newest).fill(document, self._boot)

    def _newest(self, heard: Heard) -> Scene | None:
        """Return the newest picture made ready, once for all; None if there is none."""
        if heard.picture is None:
            return None
        if self._scene[0] != heard.seen:
            try:
                self._scene = heard.seen, scene(heard.picture)
            except ValueError as error:
                log.warning("a preview can't be shown: %s", error)
                self._scene = heard.seen, self._scene[1]
        return self._scene[1]
