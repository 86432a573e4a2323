"""``ptystream demo --bluesky``: a RunEngine flies a scan until the image is good.

Proxy, service and beamline are processes; this one is the beamline's Bluesky session.
"""

import argparse
import asyncio
import contextlib
import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from bluesky import RunEngine
from bluesky.callbacks.zmq import RemoteDispatcher
from bluesky.run_engine import call_in_bluesky_event_loop
from bluesky.utils import FailedStatus, RunEngineInterrupted
from ophyd_async.core import init_devices
from rich.console import Console

from ptystream.bluesky.callbacks import Announcer
from ptystream.bluesky.device import PtychoLive
from ptystream.bluesky.plans import Flown, fly_until
from ptystream.bluesky.simulated import SimulatedBeamline
from ptystream.errors import StoppedError

QUALITY = 0.01
"""Held-out error at which the demo's scan is good enough; an empty object has 0.2."""
MIN_FRAMES = 500
START_S = 60.0
PROXY = "from bluesky.commandline.zmq_proxy import main; main()"


@dataclass(eq=False)  # a dispatcher hashes its callbacks
class _Heard:
    """The derived run, as any consumer of the bus gets it."""

    documents: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)

    def __call__(self, name: str, document: dict[str, Any]) -> None:
        self.documents.append((name, document))
        if name == "stop":
            self.stopped.set()

    def named(self, name: str) -> list[dict[str, Any]]:
        """Return the documents of one kind."""
        return [document for kind, document in self.documents if kind == name]


def fly(
    args: argparse.Namespace,
    folder: Path,
    console: Console,
    stop: threading.Event,
    served: Callable[[list[str]], contextlib.AbstractContextManager[dict[str, str]]],
) -> dict[str, Any] | None:
    """Fly; return the last line's facts, None if the user stopped it.

    ``served`` starts a service with these flags and tells its addresses.

    Raises:
        StoppedError: a process ended early, or the derived run never did.
    """
    logging.getLogger("bluesky").setLevel(logging.CRITICAL)  # it logs what it raises
    if args.json:
        logging.getLogger().setLevel(logging.WARNING)
    inward, outward, detector, encoder = _free_addresses(4)
    heard = _Heard()
    flags = [
        f"--detector=ptys+sub://{detector}",
        f"--positions=ptys+sub://{encoder}",
        f"--set=publish.documents={inward}",
        "--set=publish.every_s=0.2",
    ]
    with _proxy(inward, outward), _listening(outward, heard), served(flags) as ready:
        console.print(f"documents  {outward}, prefix an\nservice    {ready['control']}")
        with _session(ready, f"tcp://{detector}", f"tcp://{encoder}", args) as session:
            flown, document = session(stop)
        if flown is None:
            return None
        if not heard.stopped.wait(args.seconds + START_S):
            raise StoppedError("the derived run never ended on the bus")
        return _told(flown, document, heard, folder, console)


@contextlib.contextmanager
def _session(
    ready: dict[str, str], detector: str, encoder: str, args: argparse.Namespace
) -> Iterator[Callable[[threading.Event], tuple[Flown | None, dict[str, Any]]]]:
    """Yield what flies one scan in a RunEngine, with all its devices."""
    engine: Any = RunEngine({}, call_returns_result=True, context_managers=[])
    with init_devices(timeout=START_S):
        ptycho = PtychoLive(ready["control"], ready["status"])
        beamline = SimulatedBeamline(detector, encoder, args.preset)
    documents: list[dict[str, Any]] = []
    with Announcer(ready["control"]) as announcer:
        engine.subscribe(announcer)
        engine.subscribe(lambda _, document: documents.append(document), "stop")
        plan = fly_until(
            ptycho,
            [beamline],
            quality=QUALITY,
            min_frames=MIN_FRAMES,
            prepare={beamline.name: {}},
            md={"sample": {"name": "two pictures"}},
        )

        def run(stop: threading.Event) -> tuple[Flown | None, dict[str, Any]]:
            with _paused_by(engine, stop):
                try:
                    result = engine(plan)
                except RunEngineInterrupted:
                    # What was under way when it was stopped may well fail.
                    with contextlib.suppress(FailedStatus):
                        engine.abort("stopped by the user")
                    return None, {}
                except FailedStatus as error:
                    raise StoppedError(str(error.__cause__)) from error
            return result.plan_result, documents[-1]

        try:
            yield run
        finally:
            call_in_bluesky_event_loop(ptycho.close())


@contextlib.contextmanager
def _paused_by(engine: RunEngine, stop: threading.Event) -> Iterator[None]:
    """Pause a RunEngine that runs as soon as the event is set."""
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            if stop.wait(0.1):
                engine.request_pause(defer=False)
                return

    thread = threading.Thread(target=watch, name="stop-watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(5.0)


@contextlib.contextmanager
def _proxy(inward: str, outward: str) -> Iterator[None]:
    """Run Bluesky's 0MQ proxy, there once its ports answer."""
    words = ["--in-address", inward, "--out-address", outward]
    with subprocess.Popen(
        [sys.executable, "-c", PROXY, *words],
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        try:
            for address in (inward, outward):
                _answers(address, process)
            yield
        finally:
            process.terminate()


def _answers(address: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until something listens there; StoppedError if it never does."""
    host, port = address.split(":")
    deadline_s = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < deadline_s:
        with contextlib.suppress(OSError):
            socket.create_connection((host, int(port)), 1.0).close()
            return
        time.sleep(0.05)
    raise StoppedError(f"no document proxy at {address}: status {process.poll()}")


@contextlib.contextmanager
def _listening(outward: str, heard: _Heard) -> Iterator[None]:
    """Read the derived runs off the bus, with Bluesky's own dispatcher."""
    loop = asyncio.new_event_loop()
    dispatcher = RemoteDispatcher(
        outward, prefix=b"an", loop=loop, deserializer=orjson.loads
    )
    dispatcher.subscribe(heard)

    def run() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            dispatcher.start()

    thread = threading.Thread(target=run, name="documents", daemon=True)
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(
            lambda: [task.cancel() for task in asyncio.all_tasks(loop)]
        )
        thread.join(5.0)


def _told(
    flown: Flown,
    stop: dict[str, Any],
    heard: _Heard,
    folder: Path,
    console: Console,
) -> dict[str, Any]:
    """Print what the documents say, and return it."""
    starts = heard.named("start")
    start = starts[0] if starts else {}
    names = [name for name, _ in heard.documents]
    kinds = ", ".join(f"{names.count(n)} {n}" for n in dict.fromkeys(names))
    said = {
        "raw_uid": flown.raw_uid,
        "derived_uid": start.get("uid"),
        "original_run_uid": start.get("original_run_uid"),
        "events": names.count("event"),
        "exit_status": stop["exit_status"],
        "stopped_early": flown.stopped_early,
        "reason": stop["reason"],
        "derived": heard.named("stop")[0]["reason"],
        "results": str(folder),
    }
    console.print(
        f"raw run    {said['raw_uid']}  {said['exit_status']}: {said['reason']}\n"
        f"derived    {said['derived_uid']}  {kinds}\n"
        f"           original_run_uid {said['original_run_uid']}\n"
        f"           {said['derived']}\n"
        f"results    {folder}",
        highlight=False,
        soft_wrap=True,
    )
    return said


def _free_addresses(count: int) -> list[str]:
    """Return addresses on loopback whose ports are free now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for taken in sockets:
            taken.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{taken.getsockname()[1]}" for taken in sockets]
