"""However the service is told to end, it keeps what it has and leaves nothing."""

import os
import signal
import time
from pathlib import Path

import pytest

from tests.system.beam import Beam
from tests.system.conftest import Serving, is_whole, wait_for
from tests.system.processes import Child, alive

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]


def shared_memory() -> set[str]:
    """Return the names in /dev/shm."""
    folder = Path("/dev/shm")
    return {p.name for p in folder.iterdir()} if folder.is_dir() else set()


@pytest.fixture
def beam():
    with Beam() as beam:
        yield beam


@pytest.fixture
def live(beam, start, tmp_path):
    """Start a service, and give it most of a scan."""

    def run(*flags: str) -> tuple[Child, Serving, str]:
        results = tmp_path / "results"
        child = start("serve", *beam.serve_flags(results, *flags))
        service = Serving(child, results)
        beam.wait()
        scan = beam.start()
        beam.expose(scan, 0, 100)
        wait_for(lambda: service.status()["exposures"] == 100, "100 exposures")
        wait_for(lambda: service.status()["step"] > 100, "steps")
        return child, service, scan

    return run


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_mid_scan_ends_it_with_a_result(live, number):
    before = shared_memory()
    child, service, scan = live()
    (receiver,) = child.children()
    child.send(number)
    child.send(number)  # an impatient user: harmless
    assert child.ends(10) == 0, child.said()
    (ended,) = child.lines()
    assert (ended["scan"], ended["reason"]) == (scan, "aborted")
    assert ended["refined"] == "the service was stopped"
    is_whole(service.result(ended), 100)
    assert not alive(receiver)
    assert shared_memory() <= before
    assert "Traceback" not in child.said()


def test_ctrl_c_reaches_the_whole_group_and_still_ends_well(live):
    child, service, _ = live()
    os.killpg(child.process.pid, signal.SIGINT)
    assert child.ends(10) == 0, child.said()
    (ended,) = child.lines()
    is_whole(service.result(ended), 100)


def test_a_signal_while_idle_ends_it_at_once(beam, start, tmp_path):
    child = start("serve", *beam.serve_flags(tmp_path))
    Serving(child, tmp_path)
    child.send(signal.SIGTERM)
    assert child.ends(5) == 0, child.said()
    assert child.lines() == []


def test_a_receiver_that_dies_is_replaced_within_the_scan(beam, live):
    child, service, scan = live("--set=scan.late_s=1")
    (receiver,) = child.children()
    os.kill(receiver, signal.SIGKILL)
    wait_for(lambda: child.children() not in ([], [receiver]), "another receiver")
    wait_for(lambda: service.get("/readyz")[0] == 200, "ready again")
    beam.wait()
    beam.expose(scan, 100, len(beam))
    beam.end(scan)
    ended = service.ended()
    assert (ended["scan"], ended["reason"]) == (scan, "complete")
    is_whole(service.result(ended))
    name = "receiver_restarts_total"
    wait_for(lambda: service.metric(name) == 1, f"{name} of 1")


def test_a_receiver_does_not_outlive_a_killed_service(beam, start, tmp_path):
    before = shared_memory()
    child = start("serve", *beam.serve_flags(tmp_path))
    Serving(child, tmp_path)
    (receiver,) = child.children()
    child.send(signal.SIGKILL)
    assert child.ends() == -signal.SIGKILL
    wait_for(lambda: not alive(receiver), "the receiver's end")
    assert shared_memory() <= before


def test_a_step_that_hangs_is_left_behind_and_the_exit_code_says_so(
    beam, start, tmp_path
):
    """A network far too large for this machine: one step takes a minute."""
    slow = ("siren", "--set=object.width=4096", "--set=object.hidden=8")
    flags = beam.serve_flags(tmp_path, "--field", *slow)
    child = start("serve", *flags)
    service = Serving(child, tmp_path)
    beam.wait()
    scan = beam.start()
    beam.expose(scan, 0, 100)
    wait_for(lambda: service.status()["scan"] == scan, "the scan")
    time.sleep(1.0)  # all is taken, and the first step is under way
    child.send(signal.SIGTERM)
    assert child.ends(30) == 1, child.said()
    assert "hangs in a step" in child.said()
