"""What is left of a service that ended, and of one that was killed."""

import signal
from pathlib import Path

import pytest

from tests.system.beam import Beam
from tests.system.conftest import Serving, wait_for
from tests.system.processes import alive
from tools.soaking.looks import held, named_segments

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

SOCKETS = ("control", "status", "preview")


@pytest.fixture
def beam():
    with Beam() as beam:
        yield beam


def flags(beam: Beam, folder: Path) -> list[str]:
    """Return what a service is told whose own sockets are files."""
    own = [f"--set=publish.{name}=ipc://{folder}/{name}" for name in SOCKETS]
    return ["serve", *beam.serve_flags(folder / "results"), *own]


def sockets(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_socket()}


def unfinished(folder: Path) -> list[Path]:
    return list(folder.rglob("*.part"))


def test_what_a_killed_service_leaves_is_gone_once_the_next_has_ended(
    beam, start, tmp_path
):
    killed = start(*flags(beam, tmp_path))
    service = Serving(killed, tmp_path / "results")
    beam.wait()
    beam.expose(beam.start(), 0, 60)
    wait_for(lambda: service.status()["frames"]["paired"], "frames")
    family = [killed.process.pid, *killed.children()]
    assert sum(held(pid).segments for pid in family) > 0
    named = named_segments(family)
    killed.send(signal.SIGKILL)
    killed.ends()
    wait_for(lambda: not any(alive(pid) for pid in family), "the end of all")
    assert sockets(tmp_path) == set(SOCKETS)
    (tmp_path / "results").mkdir(exist_ok=True)
    (tmp_path / "results/.scan_run.h5.0badcafe.part").write_bytes(b"half")

    follower = start(*flags(beam, tmp_path))
    service = Serving(follower, tmp_path / "results")
    assert unfinished(tmp_path) == []
    beam.wait(1)
    scan = beam.scan()
    assert service.ended(scan=scan)["reason"] == "complete"
    family = [follower.process.pid, *follower.children()]
    named |= named_segments(family)
    follower.send(signal.SIGTERM)
    assert follower.ends() == 0, follower.said()
    assert not any(alive(pid) for pid in family)
    assert sockets(tmp_path) == set()
    assert unfinished(tmp_path) == []
    assert not any(path.exists() for path in named)
