"""One scan through real sockets into a real service, watched from outside."""

import json
import select
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ptystream.errors import StoppedError
from ptystream.publish.client import ControlClient
from tools.benchmarks.live_memory import Memory, memory_of
from tools.benchmarks.live_probe import write_first_probe
from tools.benchmarks.live_scans import Scan
from tools.benchmarks.receiver import Process, line_of, process

FREE = "tcp://127.0.0.1:0"
BOUND = (
    f"--set=detector.address={FREE}",
    f"--set=encoder.address={FREE}",
    "--set=wait_s=90",
)
"""Free ports, and patience: on a busy machine a service starts in half a minute."""
SERVED = (
    "--set=publish.picture=false",
    f"--set=publish.control={FREE}",
    f"--set=publish.status={FREE}",
    f"--set=publish.preview={FREE}",
    "--set=publish.metrics=127.0.0.1:0",
)
"""Free ports and no picture; all else is the default."""
EVERY_S = 0.5
"""``publish.every_s``'s default: time between snapshots."""
LOOK_S = 0.1
SPARE_S = 90.0
"""Beside scan and refinement: time to start, and to make the frames."""


@dataclass(frozen=True)
class Steps:
    """Engine steps while frames came, and the mean time of one."""

    count: int
    mean_s: float


@dataclass(frozen=True)
class Streamed:
    """What a live run left, and what its processes said.

    Attributes:
        stack: HDF5 of all snapshots, complex and in full; its times are wall time.
        began_s: wall time at which the first exposure began.
        last_frame_s: when the last frame left the detector, after that.
        sent: the beamline's report.
        ended: the service's line on the scan.
        steps: those while frames came.
        peak: of the service's processes together.
    """

    stack: Path
    began_s: float
    last_frame_s: float
    sent: dict[str, Any]
    ended: dict[str, Any]
    steps: Steps
    peak: Memory

    @property
    def lost(self) -> int:
        """Frames that were sent and never reached the engine with a position."""
        return self.sent["detector"]["items"] - self.ended["frames"]["paired"]


def told(scan: Scan, folder: Path) -> list[str]:
    """Return the scan's settings as flags; its wrong first probe is written."""
    flags = [f"--set={setting}" for setting in scan.told]
    if scan.spoil is not None:
        path = (folder / f"{scan.name}-first.h5").resolve()
        write_first_probe(path, scan.settings(), scan.spoil)
        flags.append(f"--set=first_probe.file={json.dumps(str(path))}")
    return flags


def stream(
    scan: Scan, field: str, folder: Path, *, hurry: float, size_px: int
) -> Streamed:
    """Stream a scan into a service with this field.

    ``size_px`` is the longest side of a snapshot that is kept in full.

    Raises:
        StoppedError: a process ended early, or took far too long.
    """
    refine_s = scan.refine_s / hurry
    limit_s = scan.seconds / hurry + refine_s + SPARE_S
    flags = [f"--set=refine.max_s={refine_s:g}", *told(scan, folder), *SERVED]
    with ExitStack() as stack:
        beamline = stack.enter_context(
            _command("simulate", *scan.flags(hurry=hurry), *BOUND)
        )
        where = [f"--field={field}", f"--results={folder}", *_endpoints(beamline)]
        service = stack.enter_context(_command("serve", *where, *flags))
        ready = json.loads(line_of(service))["ready"]
        frames = round((scan.seconds / hurry + refine_s) / EVERY_S * 1.5) + 20
        kept = _keep_snapshots(ready["control"], frames, size_px)
        seen = _Watch(service, ready["http"])
        ended = seen.until_ended(beamline, limit_s)
        service.terminate()  # what sinks have not written yet is written now
        service.wait(SPARE_S)
    return Streamed(kept, *seen.times(), seen.sent, ended, seen.steps, seen.peak)


def record(scan: Scan, tape: Path) -> None:
    """Record the same frames and positions, sent flat out.

    Raises:
        StoppedError: not all of it came, or a process ended early.
    """
    with ExitStack() as stack:
        beamline = stack.enter_context(
            _command("simulate", *scan.flags(hurry=None), *BOUND)
        )
        where = [*_endpoints(beamline), f"--output={tape}", "--scans=1"]
        recorder = stack.enter_context(_command("record", *where))
        line_of(recorder)
        sent = json.loads(line_of(beamline))
        stats = json.loads(line_of(recorder))
        recorder.wait(SPARE_S)
    refused = sum(sent[box]["refused"] for box in ("detector", "encoder"))
    if refused or stats["dropped"] or stats["refused"]:
        raise StoppedError(f"{scan.name}: the tape is not whole: {sent}, {stats}")


def reconstructed(
    scan: Scan, field: str, tape: Path, output: Path, *, hurry: float
) -> dict[str, Any]:
    """Reconstruct the tape until it converges; return what the command says.

    Raises:
        StoppedError: it failed.
    """
    seconds = scan.offline_s / hurry
    words = [str(tape), f"--output={output}", f"--field={field}"]
    limits = [f"--seconds={seconds:g}", *told(scan, tape.parent)]
    line = [sys.executable, "-m", "ptystream", "reconstruct", "--quiet"]
    done = subprocess.run(
        [*line, *words, *limits], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise StoppedError(f"{' '.join(done.args)}: {done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


class _Watch:
    """Looks at a service's memory until its scan has ended, and at its steps."""

    def __init__(self, service: Process, http: str) -> None:
        self._service, self._http = service, http
        self._sent_s = 0.0
        self.sent: dict[str, Any] = {}
        self.steps = Steps(0, float("nan"))
        self.peak = Memory()

    def until_ended(self, beamline: Process, limit_s: float) -> dict[str, Any]:
        """Return what the service says of its scan; StoppedError beyond the limit."""
        deadline_s = time.monotonic() + limit_s
        ended: dict[str, Any] = {}
        silent = {p.stdout: p for p in (beamline, self._service) if p.stdout}
        while silent:
            if time.monotonic() > deadline_s:
                raise StoppedError(f"{self._service.args} took more than {limit_s:g} s")
            self.peak = self.peak.peak(memory_of(self._service.pid))
            for pipe in select.select(list(silent), [], [], LOOK_S)[0]:
                process = silent.pop(pipe)
                said = json.loads(line_of(process))
                if process is beamline:
                    self._note_sent(said)
                else:
                    ended = said
        return ended

    def times(self) -> tuple[float, float]:
        """Return when (wall) the scan began, and its last frame's time after that."""
        boxes = self.sent["detector"], self.sent["encoder"]
        return self._sent_s - max(b["last_s"] for b in boxes), boxes[0]["last_s"]

    def _note_sent(self, report: dict[str, Any]) -> None:
        """Note that both boxes are through: the report comes within 50 ms of that."""
        self._sent_s = time.time()
        self.sent = report
        self.steps = _steps(self._http)


def _steps(http: str) -> Steps:
    """Return what /metrics says of the engine's steps."""
    with urllib.request.urlopen(f"{http}/metrics", timeout=10) as reply:
        lines = reply.read().decode().splitlines()
    series = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    count = int(float(series["ptystream_step_seconds_count"]))
    total_s = float(series["ptystream_step_seconds_sum"])
    return Steps(count, total_s / count if count else float("nan"))


def _keep_snapshots(control: str, frames: int, size_px: int) -> Path:
    """Have snapshots kept in full: previews have 8 bits, so 53 dB at best in phase."""
    with ControlClient(control) as client:
        asked = client.ask("stack", name="live", frames=frames, size=size_px)
        if not asked["ok"]:
            raise StoppedError(f"no stack of snapshots: {asked['error']}")
        path = asked["result"]["path"]
        deadline_s = time.monotonic() + SPARE_S
        while client.ask("status")["result"]["stack"]["path"] != path:
            if time.monotonic() > deadline_s:
                raise StoppedError(f"the service never began {path}")
            time.sleep(LOOK_S)
        client.ask("stack_take", frames=frames)
    return Path(path)


def _endpoints(beamline: Process) -> list[str]:
    """Return the beamline's two addresses as flags, once it has bound them."""
    senders = json.loads(line_of(beamline))
    names = {"detector": senders["detector"], "positions": senders["encoder"]}
    return [f"--{n}={url.replace('tcp', 'ptys+sub')}" for n, url in names.items()]


@contextmanager
def _command(name: str, *flags: str) -> Iterator[Process]:
    """Run a command of ptystream until it ends, or the block does."""
    with process(name, "--quiet", *flags, module="ptystream.cli") as running:
        try:
            yield running
        finally:
            running.terminate()
            try:
                running.wait(20)
            except subprocess.TimeoutExpired:
                running.kill()
