"""A service that says what a test wants, on real sockets, and a dashboard beside it."""

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest

from ptystream.dashboard.feed import Addresses
from ptystream.publish.control import ControlServer
from ptystream.publish.images import Image, Picture
from ptystream.status import ServiceStatus

TOKEN = "a-token-of-two-dozen-chars"


def a_map(name: str, values: np.ndarray, low: float, high: float) -> Image:
    """Return a layer of 10 nm pixels whose first is centred on (1, 2) µm."""
    return Image(
        name, values.astype(np.float32), low, high, (10e-9, 10e-9), (1e-6, 2e-6)
    )


def a_picture(run: str = "run-1", shape: tuple[int, int] = (40, 60)) -> Picture:
    """Return a preview as a service makes it."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    lit = ((y > 4) & (x > 4)).astype(float)
    probe = np.exp(-((np.mgrid[:16, :16] - 8) ** 2).sum(0) / 20.0)
    modes = np.stack([probe, probe / 2]).astype(np.float32)
    small = {"pixel_m": (10e-9, 10e-9), "origin_m": (-8e-8, -8e-8)}
    places = np.array([[1.1e-6, 2.1e-6], [1.2e-6, 2.3e-6]], np.float32)
    pattern = np.log10(1 + np.stack([1000 * probe, 900 * probe]))
    return Picture(
        (
            a_map("object_amplitude", 1 + 0.2 * np.sin(x / 5), 0.8, 1.2),
            a_map("object_phase", 0.1 * np.cos(y / 5), -0.1, 0.1),
            a_map("coverage", lit, 0.0, 1.0),
            a_map("confidence", 0.9 * lit, 0.0, 1.0),
            Image("probe_amplitude", modes, 0.0, 1.0, **small),
            Image("probe_phase", 0 * modes, -3.14, 3.14, **small),
            Image("places", places, 0.0, 1.0, (1.0, 1.0), (0.0, 0.0)),
            Image(
                "pattern", pattern.astype(np.float32), 0.0, 3.1, (1.0, 1.0), (0.0, 0.0)
            ),
        ),
        {"run": run, "scan": "scan-1", "step": 7, "pixel_m": [10e-9, 10e-9]},
    )


class Service:
    """The service's real sockets; ``says`` is its state, ``asked`` what it was told."""

    def __init__(self) -> None:
        self.says: dict[str, Any] = {"state": "live", "run": "run-1", "scan": "scan-1"}
        self._began_s = time.time() - 5
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.past: list[dict[str, Any]] = []
        self.refuses = ""
        self._where = Addresses(*3 * ["tcp://127.0.0.1:0"])
        self._stack = ExitStack()

    def start(self) -> None:
        """Bind; a second time on the same ports."""
        where = self._where
        server = ControlServer(
            {
                "past": lambda args: {"scans": self.past},
                **{n: self._noted(n) for n in ("hold", "resume", "save", "stop")},
            },
            self._status,
            where.control,
            where.status,
            where.preview,
            heartbeat_s=0.2,
        )
        self.server = self._stack.enter_context(server)
        bound = server.control_address, server.status_address, server.preview_address
        self._where = Addresses(*bound)

    def stop(self) -> None:
        """Unbind."""
        self._stack.close()

    @property
    def addresses(self) -> Addresses:
        """Where it is."""
        return self._where

    def _status(self) -> dict[str, Any]:
        plain = ServiceStatus(state="live", started_s=self._began_s).as_dict()
        return {**plain, **self.says}

    def _noted(self, name: str) -> Callable[[dict[str, Any]], None]:
        def note(args: dict[str, Any]) -> None:
            if self.refuses:
                raise ValueError(self.refuses)
            self.asked.append((name, args))

        return note


class Page:
    """A dashboard in a thread of its own, and requests to it."""

    def __init__(self, dashboard: Any) -> None:
        self.dashboard, self.address = dashboard, dashboard.address

    def get(self, path: str, **headers: str) -> tuple[int, Any, dict[str, str]]:
        """Return status, body (JSON where it is) and headers."""
        return self.request("GET", path, None, headers)

    def post(self, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Return status and body."""
        data = json.dumps({} if body is None else body).encode()
        return self.request("POST", path, data, headers)[:2]

    def state(self) -> dict[str, Any]:
        """Return the state as the page gets it."""
        return self.get("state")[1]

    def request(
        self, method: str, path: str, data: bytes | None, headers: dict[str, str]
    ) -> tuple[int, Any, dict[str, str]]:
        """Ask, whatever the answer."""
        request = urllib.request.Request(
            self.address + path, data, headers, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as reply:
                return reply.status, _body(reply), dict(reply.headers)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, _body(error), dict(error.headers)


def _body(reply: Any) -> Any:
    text = reply.read().decode()
    kind = reply.headers.get("Content-Type", "")
    return json.loads(text) if kind.startswith("application/json") else text


def until(
    met: Callable[[], Any], what: str, timeout_s: float = 20.0, every_s: float = 0.02
) -> Any:
    """Return the first true value; fail with ``what`` after the timeout."""
    deadline_s = time.monotonic() + timeout_s
    while not (value := met()):
        assert time.monotonic() < deadline_s, f"never: {what}"
        time.sleep(every_s)
    return value


def finding(fault: str, detail: str, sure: float) -> dict[str, Any]:
    """Return a finding as it comes over the wire."""
    return {"fault": fault, "detail": detail, "sure": sure}


@pytest.fixture
def service() -> Iterator[Service]:
    """A service that has started."""
    made = Service()
    made.start()
    yield made
    made.stop()


@pytest.fixture
def serve_page() -> Iterator[Callable[..., Page]]:
    """Start a dashboard for addresses; it ends with the test."""
    pytest.importorskip("bokeh", reason="bokeh is not installed")
    from ptystream.dashboard.server import Dashboard

    with ExitStack() as stack:

        def start(addresses: Addresses, **given: Any) -> Page:
            stop, pages = threading.Event(), []
            up = threading.Event()

            def run() -> None:
                with Dashboard(addresses, **given) as dashboard:
                    pages.append(Page(dashboard))
                    up.set()
                    dashboard.run(stop)

            thread = threading.Thread(target=run, name="dashboard")
            thread.start()
            stack.callback(thread.join)
            stack.callback(stop.set)
            assert up.wait(30), "the dashboard did not start"
            return pages[0]

        yield start
