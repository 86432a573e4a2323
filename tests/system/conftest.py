"""A service and beamlines for tests, each of real processes and real sockets."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ptystream.publish.client import ControlClient
from ptystream.publish.files import Result, read_result
from tests.system.processes import FREE, SERVED, Child

SMALL = (
    "--preset=demo",
    "--set=scan.shape=[12, 12]",
    "--set=scan.rate_hz=200",
    "--set=scan.line_pause_s=0.01",
    "--set=detector.size_px=32",
    "--set=optics.outer_zone_m=100e-9",
    "--set=encoder.lag_s=0.05",
    f"--set=detector.address={FREE}",
    f"--set=encoder.address={FREE}",
)
"""144 frames of 32x32 in a second."""
FRAMES = 144


class Serving:
    """A running service, its addresses and its folder of results."""

    def __init__(self, child: Child, results: Path) -> None:
        self.child, self.results = child, results
        self.addresses: dict[str, str] = child.line()["ready"]

    def ended(self, timeout_s: float = 40.0, *, scan: str = "") -> dict[str, Any]:
        """Return what it says of the next scan that ends, or of this scan's end."""
        said = self.child.line(timeout_s)
        while scan and said["scan"] != scan:
            said = self.child.line(timeout_s)
        return said

    def result(self, ended: dict[str, Any]) -> Result:
        """Return the result, which is written in a thread of its own."""
        path = Path(ended["result"])
        wait_for(path.exists, f"{path}: {self.child.said()}")
        return read_result(path)

    def ask(self, command: str) -> dict[str, Any]:
        """Return the reply of the control socket."""
        with ControlClient(self.addresses["control"], timeout_s=10) as client:
            return client.ask(command)

    def status(self) -> dict[str, Any]:
        """Return the service's state."""
        return self.ask("status")["result"]

    def get(self, path: str) -> tuple[int, str]:
        """Return status and body of one HTTP request."""
        try:
            url = self.addresses["http"] + path
            with urllib.request.urlopen(url, timeout=10) as reply:
                return reply.status, reply.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def metric(self, name: str) -> float:
        """Return one series of /metrics, named with its labels."""
        for line in self.get("/metrics")[1].splitlines():
            if line.rpartition(" ")[0] == f"ptystream_{name}":
                return float(line.rpartition(" ")[2])
        raise AssertionError(f"no metric {name}")


Serve = Callable[..., Serving]
Start = Callable[..., Child]


def wait_for(met: Callable[[], Any], what: str, timeout_s: float = 20.0) -> Any:
    """Return the first true value of ``met``; fail with ``what`` after the timeout."""
    deadline_s = time.monotonic() + timeout_s
    while not (value := met()):
        assert time.monotonic() < deadline_s, f"never: {what}"
        time.sleep(0.02)
    return value


def better_than_empty(result: Result) -> bool:
    """Tell whether the object predicts unseen frames much better than none would."""
    history = result.history
    return history["held_out_error"][-1] < 0.3 * history["flat_error"][-1]


def is_whole(result: Result, frames: int = FRAMES) -> None:
    """Assert that a result is finite, of all exposures, and of use."""
    assert np.isfinite(result.object).all()
    assert result.positions_m is not None
    assert len(result.positions_m) == frames
    assert better_than_empty(result), result.history


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a command; it is killed at the end of the test if it still runs."""
    with ExitStack() as stack:
        yield lambda *words: stack.enter_context(Child(tmp_path, *words))


@pytest.fixture
def simulate(start: Start) -> Callable[..., tuple[Child, dict[str, str]]]:
    """Start a small beamline; return it and its endpoints as URLs."""

    def run(*flags: str) -> tuple[Child, dict[str, str]]:
        child = start("simulate", *SMALL, *flags)
        said = child.line()
        return child, {
            "detector": said["detector"].replace("tcp", "ptys+sub"),
            "positions": said["encoder"].replace("tcp", "ptys+sub"),
        }

    return run


@pytest.fixture
def serve(start: Start, tmp_path: Path) -> Serve:
    """Start a service that listens to these endpoints."""

    def run(endpoints: dict[str, str], *flags: str) -> Serving:
        results = tmp_path / "results"
        where = [f"--{name}={url}" for name, url in endpoints.items()]
        return Serving(
            start("serve", *where, f"--results={results}", *SERVED, *flags), results
        )

    return run


def as_json(text: str) -> Any:
    """Parse JSON that must not hold NaN."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} in JSON")

    return json.loads(text, parse_constant=refuse)
