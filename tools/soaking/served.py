"""A service and a beamline, each in processes of its own, and questions to both."""

import json
import select
import subprocess
import urllib.request
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from ptystream.errors import StoppedError
from tools.benchmarks.live_stream import SERVED
from tools.benchmarks.receiver import Process, line_of, process

END_S = 60.0
Parts = Sequence[tuple[float, float]]


class Served:
    """A running service that listens to a beam; ``flags`` are ``serve``'s."""

    def __init__(self, folder: Path, flags: Sequence[str] = ()) -> None:
        self.results = folder
        self._flags = flags
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Start both; StoppedError if one doesn't come up."""
        with ExitStack() as stack:
            self.beam = stack.enter_context(process(module="tools.soaking.beam"))
            where = [f"--{n}={u}" for n, u in json.loads(line_of(self.beam)).items()]
            words = ("serve", *where, f"--results={self.results}", *SERVED)
            self.service = stack.enter_context(
                process(*words, *self._flags, module="ptystream.cli")
            )
            self.addresses = json.loads(line_of(self.service))["ready"]
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def send(self, parts: Parts) -> None:
        """Have one scan sent, in parts of (rate_hz, seconds)."""
        if self.beam.stdin is None:
            raise StoppedError("the beam has no stdin")
        self.beam.stdin.write(json.dumps(parts) + "\n")
        self.beam.stdin.flush()

    def sent(self) -> dict[str, Any] | None:
        """Return what the beam says of a scan that it has sent; None if it has not."""
        return said(self.beam)

    def ended(self) -> dict[str, Any] | None:
        """Return what the service says of the next scan that ended, if one has."""
        return said(self.service)

    def metrics(self) -> dict[str, float]:
        """Return every series by name with labels, without ``ptystream_``."""
        url = self.addresses["http"] + "/metrics"
        with urllib.request.urlopen(url, timeout=30) as reply:
            lines = reply.read().decode().splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return {name.removeprefix("ptystream_"): float(v) for name, v in pairs}

    def end(self) -> int:
        """Ask the service to end; return its exit code, StoppedError if it does not."""
        self.service.terminate()
        try:
            return self.service.wait(END_S)
        except subprocess.TimeoutExpired:
            raise StoppedError(f"it did not end within {END_S:g} s") from None


def said(process: Process) -> dict[str, Any] | None:
    """Return the next line of JSON that a process has printed, None without one."""
    if process.stdout is None or not select.select([process.stdout], [], [], 0)[0]:
        return None
    return json.loads(line_of(process))
