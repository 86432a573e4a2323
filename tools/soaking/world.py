"""A service with all that may stand beside it, in processes that are killed."""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from ptystream.errors import StoppedError
from tools.soaking.looks import processes
from tools.soaking.replayed import Replayed

VICTIMS = ("service", "receiver", "dashboard", "proxy", "tiled")
KEY = "secretkeyforthesoak"
PROXY = "from bluesky.commandline.zmq_proxy import main; main()"
BACK_S = 0.2
"""What was killed is started again after so long, as a supervisor does."""
PATIENCE_S = 60.0


class World:
    """Starts all, kills by name, starts again, and hears what the service says."""

    def __init__(self, folder: Path, beam: Replayed) -> None:
        self.folder, self._beam = folder, beam
        self._words = _commands(folder, beam)
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._back_s: dict[str, float] = {}
        self._unread = b""

    def __enter__(self) -> Self:
        for name in self._words:
            self._start(name)
        self._line()
        self._beam.wait(2)
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._running.values():
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)

    def kill(self, name: str) -> None:
        """Send SIGKILL; what is down already stays so."""
        service = self._running.get("service")
        if name == "receiver":
            if service is not None and (pid := processes(service.pid).get(name)):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return
        process = self._running.pop(name, None)
        if process is not None:
            process.kill()
            process.wait(10)
            self._back_s[name] = time.monotonic() + BACK_S

    def revive(self) -> None:
        """Start again what was killed a moment ago."""
        for name, at_s in list(self._back_s.items()):
            if time.monotonic() >= at_s:
                del self._back_s[name]
                self._start(name)

    def ended(self, scan: str) -> dict[str, Any] | None:
        """Return what the service says of this scan's end, if it has."""
        while (said := self._said()) is not None:
            if said.get("scan") == scan:
                return said
        return None

    def settle(self) -> None:
        """Return when all is up again, and the beam has its two readers."""
        while self._back_s:
            self.revive()
            time.sleep(0.02)
        self._beam.wait(2)

    def wait_for(self, path: Path) -> None:
        """Return once a file is there: results are written in a thread of their own."""
        deadline_s = time.monotonic() + PATIENCE_S
        while not path.is_file():
            if time.monotonic() > deadline_s:
                raise StoppedError(f"{path}: never written: {self._log('service')}")
            time.sleep(0.02)

    def resumed(self) -> int:
        """Return how often a service went on with a scan."""
        return (self.folder / "service.log").read_text().count(" resumed as run ")

    def broken(self) -> Iterator[str]:
        """Yield what ended by itself."""
        for name, process in self._running.items():
            if process.poll() is not None:
                yield f"{name} ended with {process.returncode}: {self._log(name)}"

    def _start(self, name: str) -> None:
        log = (self.folder / f"{name}.log").open("ab")
        with log:
            self._running[name] = subprocess.Popen(
                [sys.executable, *self._words[name]],
                stdout=subprocess.PIPE if name == "service" else subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )

    def _log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()[-2000:]

    def _said(self) -> dict[str, Any] | None:
        """Return the next line of the service, None while there is none."""
        service = self._running.get("service")
        if service is None or service.stdout is None:
            return None
        if b"\n" not in self._unread:
            if not select.select([service.stdout], [], [], 0)[0]:
                return None
            data = os.read(service.stdout.fileno(), 1 << 16)
            if not data and service.poll() is not None:
                raise StoppedError(f"the service ended: {self._log('service')}")
            self._unread += data
        line, newline, rest = self._unread.partition(b"\n")
        if not newline:
            return None
        self._unread = rest
        return json.loads(line)

    def _line(self) -> None:
        deadline_s = time.monotonic() + PATIENCE_S
        while self._said() is None:
            if time.monotonic() > deadline_s:
                raise StoppedError(f"no service: {self._log('service')}")
            time.sleep(0.02)


def _commands(folder: Path, beam: Replayed) -> dict[str, list[str]]:
    """Return every process' command, the recorder first: nothing is to be missed."""
    control, status, preview, tiled, inward, outward = free_ports(6)
    tcp = "tcp://127.0.0.1:"
    tape, key = folder / "beside.tape", folder / "key"
    key.write_text(KEY)
    key.chmod(0o600)
    told = {
        "checkpoint.tape": f'"{tape}"',
        "checkpoint.every_s": "0.5",
        "engine.threads": "1",
        "refine.max_s": "60",
        "refine.max_steps": "500",
        "refine.patience_s": "20",
        "scan.idle_timeout_s": "5",
        "refine.check_s": "0.2",
        "publish.every_s": "0.2",
        "publish.picture": "false",
        "publish.metrics": '"127.0.0.1:0"',
        "publish.control": f'"{tcp}{control}"',
        "publish.status": f'"{tcp}{status}"',
        "publish.preview": f'"{tcp}{preview}"',
        "publish.documents": f'"127.0.0.1:{inward}"',
        "publish.tiled": f'{{uri = "http://127.0.0.1:{tiled}", every_s = 0.5}}',
        "publish.tiled.key_file": f'"{key}"',
    }
    flags = [f"--set={key}={value}" for key, value in told.items()]
    looks = {"control": control, "status": status, "preview": preview}
    ours = ["-m", "ptystream"]
    return {
        "recorder": [*ours, "record", "-o", f"{tape}", *beam.flags],
        "service": [*ours, "serve", *beam.flags, f"--results={folder}", *flags],
        "dashboard": [
            *(*ours, "dashboard", "--listen=127.0.0.1:0"),
            *(f"--{name}={tcp}{port}" for name, port in looks.items()),
        ],
        "proxy": [
            *("-c", PROXY, "--in-address", f"127.0.0.1:{inward}"),
            *("--out-address", f"127.0.0.1:{outward}"),
        ],
        "tiled": [
            *("-m", "tiled", "serve", "catalog", "--temp"),
            *("--api-key", KEY, "--port", f"{tiled}"),
        ],
    }


def free_ports(count: int) -> list[int]:
    """Return ports that are free now, all different."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
