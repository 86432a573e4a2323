"""A RunEngine that ends with its test, and a service whose state the test writes."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, Self

import pytest
from bluesky import RunEngine
from bluesky.run_engine import call_in_bluesky_event_loop

from ptystream.errors import DecodeError
from ptystream.publish.control import LOOPBACK, ControlServer

SETTINGS = {
    "presets": ["profiles/hxn"],
    "object_field": "auto",
    "object_slices": 1,
    "probe_field": "pixels",
    "probe_modes": 2,
    "model": "far",
    "loss": "smooth_l1",
    "batch": 64,
    "store": 4096,
    "held_out": 0.05,
    "halves": False,
    "seed": 0,
}
GEOMETRY = {
    "wavelength_m": 1.24e-10,
    "distance_m": 2.05,
    "detector_pixel_m": [75e-6, 55e-6],
    "origins": {"wavelength_m": "baseline: dcm_th", "distance_m": "stream"},
}


class Scripted:
    """The service's real sockets in front of a state that the test decides.

    Left and entered again it is a service that died and came back.
    """

    def __init__(self, heartbeat_s: float = 0.1) -> None:
        self.state: dict[str, Any] = {
            "state": "idle",
            "version": "1",
            "run": None,
            "scan": None,
            "raw_uid": None,
            "armed": None,
            "last": None,
            "stack": {"name": "", "written": 0, "error": ""},
            "frames": {"received": 0, "lost": {}},
            "quality": {},
            "settings": SETTINGS,
            "geometry": {},
            "lag_s": None,
            "step": 0,
        }
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self._heartbeat_s = heartbeat_s
        self._bound = LOOPBACK, LOOPBACK
        self.obeys = True
        """Whether it does what it is asked, beside noting it."""
        self.refuses = ""
        """What it says instead, to anything that it is asked."""

    def __enter__(self) -> Self:
        self.server = ControlServer(
            {
                name: self._command(name)
                for name in ("arm", "configure", "close", "stop", "enough", "ended")
            },
            lambda: self.state,
            *self._bound,
            heartbeat_s=self._heartbeat_s,
        )
        self.server.__enter__()
        self._bound = self.addresses
        return self

    def __exit__(self, *_: object) -> None:
        self.server.__exit__()

    @property
    def addresses(self) -> tuple[str, str]:
        return self.server.control_address, self.server.status_address

    def becomes(self, **state: Any) -> None:
        """Change the state, and publish it."""
        self.state = {**self.state, **state}
        self.server.changed()

    def opens(self, uid: str, frames: int = 10, error: float = 0.2) -> None:
        """Have a scan of the run open."""
        self.becomes(
            state="live",
            run=f"derived-{uid}",
            scan=f"scan-{uid}",
            raw_uid=uid,
            armed=None,
            frames={"received": frames, "lost": {}},
            quality={"held_out_error": error, "covered": 0.5},
            geometry=GEOMETRY,
            step=frames,
        )

    def ends(self, uid: str, reason: str = "complete", error: float = 0.1) -> None:
        """Have the run's scan end."""
        last = {
            "raw_uid": uid,
            "run": f"derived-{uid}",
            "reason": reason,
            "refined": "no geometry" if reason == "error" else "no better for 2 s",
            "frames": {"received": 100, "lost": {"missing": 2}},
            "quality": {"held_out_error": error, "covered": 1.0},
        }
        idle = {"state": "idle", "run": None, "scan": None, "raw_uid": None}
        idle["geometry"] = {}
        self.becomes(last=last, **idle)

    def _command(self, name: str) -> Callable[[dict[str, Any]], Any]:
        def command(args: dict[str, Any]) -> dict[str, Any] | None:
            self.asked.append((name, args))
            if self.refuses:
                raise DecodeError(self.refuses)
            if name == "arm" and self.obeys:
                self.state = {**self.state, "armed": args["uid"]}
            if name == "ended":
                last = self.state["last"]
                mine = last and last["raw_uid"] == args["uid"]
                return {"ended": last if mine else None}
            return None

        return command

    def names(self) -> list[str]:
        return [name for name, _ in self.asked]


@pytest.fixture
def service() -> Iterator[Scripted]:
    with Scripted() as scripted:
        yield scripted


@pytest.fixture
def engine() -> Iterator[Any]:
    """A RunEngine; devices made with ``closing`` are closed before its loop ends."""
    # Libraries would make one for the main thread, and leave it open.
    main = asyncio.new_event_loop()
    asyncio.set_event_loop(main)
    loop = asyncio.new_event_loop()
    made: Any = RunEngine({}, loop=loop, call_returns_result=True, context_managers=[])
    made.ignore_callback_exceptions = False
    with ExitStack() as stack:
        made.closing = lambda device: stack.callback(
            lambda: call_in_bluesky_event_loop(device.close())
        )
        yield made
        if made.state not in ("idle", "panicked"):
            made.halt()
    loop.call_soon_threadsafe(loop.stop)
    made._th.join(5)
    loop.close()
    asyncio.set_event_loop(None)
    main.close()


@pytest.fixture
def documents(engine: Any) -> list[tuple[str, dict[str, Any]]]:
    """All that the RunEngine emits."""
    said: list[tuple[str, dict[str, Any]]] = []
    engine.subscribe(lambda name, document: said.append((name, document)))
    return said


def named(documents: list[tuple[str, dict[str, Any]]], name: str) -> list[dict]:
    """Return the documents of one kind."""
    return [document for kind, document in documents if kind == name]


def rows(documents: list[tuple[str, dict[str, Any]]], key: str) -> list[Any]:
    """Return a column of all event pages that have it."""
    pages = named(documents, "event_page")
    return [v for page in pages for v in page["data"].get(key, [])]
