"""What the page fetches beside its plots: the state as JSON, and orders."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import msgspec
from tornado.web import RequestHandler

from ptystream.dashboard import facts
from ptystream.dashboard.feed import Heard
from ptystream.dashboard.guard import Guard
from ptystream.errors import PtystreamError

log = logging.getLogger(__name__)

ORDERS = ("ping", "hold", "resume", "save", "stop")
FOR_A_RUN = ("stop",)
"""Orders for just the run that the page shows: another that began is not stopped."""
MAX_BODY_BYTES = 4096
WRONG_TOKEN_S = 0.5


class _Order(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``run`` is what the page showed when the button was pressed."""

    run: str | None = None


@dataclass(frozen=True)
class Desk:
    """What handlers need: the state, the guard, and who passes an order on.

    ``ask`` blocks, so it runs in ``executor``, which has one thread; ``boot`` names
    this process.
    """

    heard: Callable[[], Heard]
    guard: Guard
    ask: Callable[..., dict[str, Any]]
    executor: Executor
    boot: str


class Polite(RequestHandler):
    """Refuses foreign names; adds headers that keep browsers from guessing."""

    def initialize(self, desk: Desk) -> None:
        """Take what the handler needs."""
        self.desk = desk

    def prepare(self) -> None:
        """Refuse what is for another name, or from another page."""
        host, origin = self.request.host or "", self.request.headers.get("Origin")
        if not self.desk.guard.knows(host, origin):
            self.refuse(HTTPStatus.FORBIDDEN, "not this page's name: see --origin")

    def set_default_headers(self) -> None:
        """Keep answers out of caches and frames."""
        self.set_header("Cache-Control", "no-store")
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("X-Frame-Options", "DENY")

    def refuse(self, status: HTTPStatus, why: str) -> None:
        """Answer that it is not done, and why."""
        self.set_status(status)
        self.finish({"ok": False, "error": why})


class StateHandler(Polite):
    """``GET state``: the newest status in words."""

    def get(self) -> None:
        """Answer with the state."""
        self.set_header("Content-Type", "application/json")
        self.finish(msgspec.json.encode(told(self.desk)))


class OrderHandler(Polite):
    """``POST order/NAME`` with ``Authorization: Bearer TOKEN``."""

    async def post(self, name: str) -> None:
        """Pass an order on; 401 without the token, 409 if the service refuses."""
        if not self.desk.guard.acts:
            self.refuse(HTTPStatus.FORBIDDEN, "read-only: started without --token-file")
            return
        if not self.desk.guard.allows(self.request.headers.get("Authorization", "")):
            log.warning("an order with a wrong token from %s", self.request.remote_ip)
            await asyncio.sleep(WRONG_TOKEN_S)
            self.refuse(HTTPStatus.UNAUTHORIZED, "wrong token")
            return
        try:
            order = msgspec.json.decode(self.request.body or b"{}", type=_Order)
        except msgspec.DecodeError as error:
            self.refuse(HTTPStatus.BAD_REQUEST, str(error))
            return
        await self._pass_on(name, order)

    async def _pass_on(self, name: str, order: _Order) -> None:
        if name == "ping":
            self.finish({"ok": True})
            return
        args = {"uid": order.run} if name in FOR_A_RUN and order.run else {}
        loop = asyncio.get_running_loop()
        try:
            reply = await loop.run_in_executor(
                self.desk.executor, lambda: self.desk.ask(name, **args)
            )
        except PtystreamError as error:
            self.refuse(HTTPStatus.BAD_GATEWAY, str(error))
            return
        log.info("%s by %s: %s", name, self.request.remote_ip, reply.get("ok"))
        if reply.get("ok"):
            self.finish({"ok": True})
        else:
            self.refuse(HTTPStatus.CONFLICT, str(reply.get("error")))


def told(desk: Desk) -> dict[str, Any]:
    """Return the state as the page shows it: words, never markup."""
    heard = desk.heard()
    status, about = heard.status, heard.picture.about if heard.picture else {}
    values = status.get("geometry") or about.get("geometry")
    return {
        "boot": desk.boot,
        "here": heard.here,
        "silent_s": heard.silent_s,
        "acts": desk.guard.acts,
        "name": status.get("state"),
        "run": status.get("run"),
        "scan": status.get("scan"),
        "version": status.get("version"),
        "state": facts.state(status),
        "progress": facts.progress(status),
        "quality": facts.quality(status),
        "flow": facts.flow(status, heard.frames_per_s),
        "health": facts.health(
            status.get("health") if status.get("exposures") else None
        ),
        "geometry": facts.geometry(values, about.get("pixel_m")),
        "past": facts.past(list(heard.past)),
        "ignored": heard.ignored,
    }
