"""A thousand large frames a second into a service whose engine learns."""

import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

from ptystream.errors import StoppedError
from ptystream.publish.client import ControlClient
from tools.benchmarks.figures import Figure
from tools.benchmarks.receiver import Process, line_of, process

RATE_HZ = 1000.0
SECONDS, QUICK_S = 60.0, 10.0
STORE = 1024
"""Frames of 128 kB that the engine keeps: 128 MiB."""
SETTINGS = (
    f"engine.store={STORE}",
    "refine.max_s=0.5",
    "publish.picture=false",
    "publish.control=tcp://127.0.0.1:0",
    "publish.status=tcp://127.0.0.1:0",
    "publish.preview=tcp://127.0.0.1:0",
    "publish.metrics=127.0.0.1:0",
)
SPARE_S = 120.0


def deluge(quick: bool) -> Iterator[Figure]:
    """Yield what is lost of 256 x 256 bslz4 at 1 kHz with positions, and the steps."""
    seconds = QUICK_S if quick else SECONDS
    count = round(RATE_HZ * seconds)
    ended, steps, late_s = _served(count)
    frames = ended["frames"]
    label = f"{seconds:g} s at 1 kHz, 256 x 256 bslz4, engine learning"
    for why, lost in sorted(frames["lost"].items()):
        if lost:
            yield Figure(f"{label}: frames lost, {why}", lost, "frames", 0)
    lost = count - frames["paired"] + frames["lost"].get("backlog", 0)
    yield Figure(f"{label}: frames that the engine never got", lost, "frames", 0)
    yield Figure(f"{label}: last frame sent late by", late_s, "s")
    yield Figure(f"{label}: steps meanwhile", steps, "steps", 1, "at least")


def _served(count: int) -> tuple[dict[str, Any], int, float]:
    """Return what the service says of the scan, steps until its last frame, delay."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        sender = stack.enter_context(process("scan", str(count), str(RATE_HZ)))
        told = json.loads(line_of(sender))
        where = [f"--{name}={url}" for name, url in told.items()]
        flags = [f"--set={setting}" for setting in SETTINGS]
        words = ("serve", "--quiet", "--scans=1", f"--results={folder}")
        service = stack.enter_context(
            process(*words, *where, *flags, module="ptystream.cli")
        )
        control = json.loads(line_of(service))["ready"]["control"]
        late_s = float(_said(sender, count))
        with ControlClient(control) as client:
            steps = client.ask("status")["result"]["step"]
        ended = json.loads(_said(service, count))
    return ended, steps, late_s


def _said(process: Process, count: int) -> str:
    """Return a process' next line, which may take as long as the scan and more."""
    deadline_s = time.monotonic() + count / RATE_HZ + SPARE_S
    while time.monotonic() < deadline_s:
        try:
            return line_of(process)
        except StoppedError:
            if process.poll() is not None:
                raise
    raise StoppedError(f"{process.args} said nothing after {count} frames")
