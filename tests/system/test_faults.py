"""A scan outlives what runs it: processes are killed, disks fill, sinks hang."""

import os
import resource
import signal
import socket
import time
from pathlib import Path

import pytest

from ptystream.ingest.sender import Sender
from tests.system.beam import Beam
from tests.system.conftest import Serving, is_whole, wait_for
from tests.system.processes import Child

DAYS_S = {"+0": 0.0, "-1d": -86400.0, "+2d": 2 * 86400.0}
pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]


class Beamline:
    """A beam, a recorder beside the service, and the service, again and again."""

    def __init__(self, beam: Beam, start, folder: Path) -> None:
        self.beam, self.results = beam, folder / "results"
        self.start, self.tape = start, folder / "beside.tape"

    def record(self) -> Child:
        """Record what the beam sends."""
        where = [f"--{name}={url}" for name, url in self.beam.endpoints.items()]
        child = self.start("record", "-o", str(self.tape), *where)
        child.line()
        self.beam.wait()
        return child

    def serve(self, *flags: str, readers: int = 2) -> Serving:
        """Start the service; return when it hears the beam."""
        beside = f"--set=checkpoint.tape={self.tape}", "--set=checkpoint.every_s=0.2"
        flags = (*beside, *flags)
        child = self.start("serve", *self.beam.serve_flags(self.results, *flags))
        service = Serving(child, self.results)
        self.beam.wait(readers)
        return service

    def checkpoints(self) -> list[Path]:
        return sorted(self.results.glob("*.checkpoint"))


@pytest.fixture
def beamline(start, tmp_path):
    with Beam() as beam:
        yield Beamline(beam, start, tmp_path)


def learning(service: Serving, exposures: int, steps: int) -> dict:
    """Return the status once it has learned so much from so many."""

    def met() -> dict | None:
        said = service.status()
        return (
            said if said["exposures"] == exposures and said["step"] >= steps else None
        )

    return wait_for(met, f"{exposures} exposures and {steps} steps")


def test_a_killed_service_goes_on_with_the_scan(beamline):
    """Of the frames a third came before, a third while it was dead, a third after."""
    beam = beamline.beam
    beamline.record()
    service = beamline.serve()
    scan = beam.start()
    beam.expose(scan, 0, 48)
    before = learning(service, 48, 60)
    (checkpoint,) = beamline.checkpoints()
    told = checkpoint.stat().st_mtime_ns
    wait_for(lambda: checkpoint.stat().st_mtime_ns > told, "another checkpoint")
    service.child.send(signal.SIGKILL)
    service.child.ends()
    beam.expose(scan, 48, 96)
    service = beamline.serve()
    again = learning(service, 96, before["step"] + 1)
    assert (again["run"], again["scan"]) == (before["run"], scan)
    assert again["started_s"] == before["started_s"]
    beam.expose(scan, 96, 144)
    beam.end(scan, 144)
    ended = service.ended()
    assert (ended["run"], ended["reason"]) == (before["run"], "complete")
    assert ended["frames"]["paired"] == 144
    assert sum(ended["frames"]["lost"].values()) == 0
    is_whole(service.result(ended))
    wait_for(lambda: not beamline.checkpoints(), "the checkpoint is removed")


def test_what_a_dead_receiver_missed_comes_from_the_tape(beamline):
    beam = beamline.beam
    beamline.record()
    service = beamline.serve()
    scan = beam.start()
    beam.expose(scan, 0, 48)
    learning(service, 48, 1)
    (receiver,) = service.child.children()
    os.kill(receiver, signal.SIGKILL)
    beam.expose(scan, 48, 96)  # nobody hears this
    wait_for(lambda: service.metric("receiver_restarts_total") == 1, "a restart")
    beam.wait(2)
    beam.expose(scan, 96, 144)
    beam.end(scan, 144)
    ended = service.ended()
    assert (ended["reason"], ended["frames"]["paired"]) == ("complete", 144)
    assert sum(ended["frames"]["lost"].values()) == 0
    assert "reading the tape" in service.child.said()
    is_whole(service.result(ended))


@pytest.mark.slow
def test_a_sender_may_vanish_in_mid_scan_and_come_back(start, tmp_path):
    with Beam() as beam:
        address = beam.detector.address
        flags = beam.serve_flags(tmp_path, "--set=scan.idle_timeout_s=1")
        service = Serving(start("serve", *flags), tmp_path)
        beam.wait()
        scan = beam.start()
        beam.expose(scan, 0, 72)
        learning(service, 72, 1)
        beam.detector.__exit__(None, None, None)
        ended = service.ended()
        assert (ended["scan"], ended["reason"]) == (scan, "timed out")
        is_whole(service.result(ended), 72)
        with Sender(address) as beam.detector:
            beam.wait()
            again = service.ended(scan=beam.scan())
        is_whole(service.result(again))


@pytest.mark.slow
def test_a_result_that_found_no_room_is_made_at_the_next_start(beamline):
    """The disk is full when the scan ends; the checkpoint from before lies there."""
    beam = beamline.beam
    beamline.record()
    service = beamline.serve("--set=checkpoint.every_s=60")
    scan = beam.start()
    beam.expose(scan, 0, 72)
    learning(service, 72, 20)
    (checkpoint,) = beamline.checkpoints()
    pid = service.child.process.pid
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
    beam.expose(scan, 72, 144)
    beam.end(scan, 144)
    ended = service.ended()
    failed = 'sink_failures_total{sink="files"}'
    wait_for(lambda: service.metric(failed) == 1, "the failure is counted")
    assert service.get("/healthz")[0] == 200
    assert "not saved" in service.child.said()
    assert not Path(ended["result"]).exists()
    service.child.send(signal.SIGTERM)
    assert service.child.ends() == 0
    assert beamline.checkpoints() == [checkpoint]
    again = beamline.serve().ended()
    assert (again["run"], again["reason"]) == (ended["run"], "complete")
    is_whole(Serving.result(service, again))
    wait_for(lambda: not beamline.checkpoints(), "the checkpoint is removed")


@pytest.mark.slow
def test_a_sink_that_hangs_for_ever_holds_up_nobody(beamline, tmp_path):
    """A Tiled server that takes a connection and says nothing."""
    key = tmp_path / "key"
    key.write_text("secret")
    key.chmod(0o600)
    beam = beamline.beam
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        flags = beam.serve_flags(
            tmp_path,
            f'--set=publish.tiled={{uri = "http://127.0.0.1:{port}"}}',
            f'--set=publish.tiled.key_file="{key}"',
        )
        service = Serving(beamline.start("serve", *flags), tmp_path)
        beam.wait()
        ended = [service.ended(scan=beam.scan()) for _ in range(2)]
        for each in ended:
            is_whole(service.result(each))
        assert service.metric('sink_in_flight_seconds{sink="tiled"}') > 0.5
        assert service.get("/healthz")[0] == 200
        service.child.send(signal.SIGTERM)
        assert service.child.ends(60) == 0


@pytest.mark.slow
def test_the_wall_clock_may_jump(beamline, monkeypatch, tmp_path):
    """Back by a day and on by two while a scan is under way: nothing waits by it."""
    fake = pytest.importorskip("libfaketime")
    library = Path(fake.__file__).parent / "vendor/libfaketime/src/libfaketime.so.1"
    clock = tmp_path / "clock"
    clock.write_text("+0")
    monkeypatch.setenv("LD_PRELOAD", str(library))
    monkeypatch.setenv("FAKETIME_TIMESTAMP_FILE", str(clock))
    monkeypatch.setenv("FAKETIME_NO_CACHE", "1")
    monkeypatch.setenv("DONT_FAKE_MONOTONIC", "1")
    monkeypatch.setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1")
    service = beamline.serve(readers=1)
    for jump, other in (("+0", "+2d"), ("-1d", "+2d"), ("+2d", "-1d")):
        clock.write_text(jump)
        scan = beamline.beam.start()
        beamline.beam.expose(scan, 0, 72)
        began_s = learning(service, 72, 10)["started_s"]
        assert abs(began_s - time.time() - DAYS_S[jump]) < 60  # it is deceived
        clock.write_text(other)
        beamline.beam.expose(scan, 72, 144)
        beamline.beam.end(scan, 144)
        ended = service.ended()
        assert (ended["reason"], ended["frames"]["paired"]) == ("complete", 144)
        assert ended["seconds_after_last_frame"] < 30
        is_whole(service.result(ended))
