"""Recorded while it is served, served from the tape, and reconstructed offline."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from ptystream.publish.files import Result, read_result
from ptystream.sim.truth import write_truth
from ptystream.tape.log import TapeReader
from tests.publish.test_documents_live import free_addresses
from tests.system.beam import Beam
from tests.system.conftest import FRAMES, Serving, better_than_empty, is_whole, wait_for
from tests.system.processes import SERVED, Child, ran

pytestmark = [pytest.mark.system, pytest.mark.timeout(150)]
BEFORE_THE_KILL = 90


@dataclass(frozen=True)
class Session:
    """One scan: served live, on a tape, and on a tape whose recorder was killed."""

    live: Result
    tape: Path
    torn: Path
    truth: Path


@pytest.fixture(scope="module")
def session(tmp_path_factory) -> Session:
    folder = tmp_path_factory.mktemp("session")
    whole, torn, truth = (
        folder / "whole.tape",
        folder / "torn.tape",
        folder / "truth.h5",
    )
    with Beam() as beam:
        write_truth(truth, beam.experiment.truth)
        where = [f"--{name}={url}" for name, url in beam.endpoints.items()]
        with (
            Child(folder, "serve", *beam.serve_flags(folder)) as child,
            Child(folder, "record", "-o", str(whole), "--scans=1", *where) as recorder,
            Child(folder, "record", "-o", str(torn), *where) as killed,
        ):
            service = Serving(child, folder)
            assert recorder.line()["recording"] == str(whole)
            beam.wait(readers=3)
            scan = beam.start()
            for index in range(BEFORE_THE_KILL):  # the last record is to be a frame
                beam.place(scan, index)
            placed = b"ptys1/pos/pos"
            wait_for(lambda: count_on(torn, placed) == BEFORE_THE_KILL, "positions")
            for index in range(BEFORE_THE_KILL):
                beam.send("det", beam.frame(scan, index))
            wait_for(lambda: frames_on(torn) == BEFORE_THE_KILL, "frames on the tape")
            killed.send(signal.SIGKILL)
            killed.ends()
            beam.expose(scan, BEFORE_THE_KILL, FRAMES)
            beam.end(scan)
            live = service.result(service.ended(scan=scan))
            assert recorder.ends() == 0, recorder.said()
            assert recorder.lines()[-1]["dropped"] == 0
    with torn.open("r+b") as file:  # and the last record was cut in half
        os.truncate(file.fileno(), torn.stat().st_size - 100)
    return Session(live, whole, torn, truth)


@pytest.fixture(scope="module")
def replayed(tmp_path_factory):
    """One service that listens to whatever is replayed at two addresses."""
    folder = tmp_path_factory.mktemp("replayed")
    det, pos = free_addresses(2)
    flags = (
        f"--detector=ptys+sub://{det}",
        f"--positions=ptys+sub://{pos}",
        f"--results={folder}",
        "--set=scan.idle_timeout_s=1.5",
    )
    with Child(folder, "serve", *flags, *SERVED) as child:
        service = Serving(child, folder)

        def replay(tape: Path, *how: str) -> tuple[dict, dict]:
            where = (f"--detector=tcp://{det}", f"--positions=tcp://{pos}")
            said = ran(folder, "replay", str(tape), *where, *how)
            return said[-1], service.ended()

        yield service, replay


def count_on(tape: Path, topic: bytes) -> int:
    """Return how many such messages are on a tape, which may still be written."""
    if not tape.exists() or not tape.stat().st_size:
        return 0
    with TapeReader(tape) as reader:
        return sum(record.parts[0] == topic for record in reader)


def frames_on(tape: Path) -> int:
    return count_on(tape, b"ptys1/det/frame")


def places(result: Result) -> np.ndarray:
    """Return where the exposures of a result were taken, in order."""
    assert result.positions_m is not None
    return result.positions_m[np.lexsort(result.positions_m.T)]


def final_error(result: Result) -> float:
    return float(result.history["held_out_error"][-1])


@pytest.mark.parametrize("speed", ["1", "0"])
def test_a_tape_is_as_good_as_the_beamline(session, replayed, speed):
    service, replay = replayed
    sent, ended = replay(session.tape, "--speed", speed)
    assert (sent["dropped"], ended["reason"]) == (0, "complete")
    assert sum(ended["frames"]["lost"].values()) == 0
    result = service.result(ended)
    is_whole(result)
    assert np.array_equal(places(result), places(session.live))
    assert 0.5 < final_error(result) / final_error(session.live) < 2


def test_a_killed_recorders_tape_has_all_but_the_torn_record(session, replayed):
    service, replay = replayed
    whole_frames = frames_on(session.torn)
    assert whole_frames >= BEFORE_THE_KILL - 1
    sent, ended = replay(session.torn, "--speed", "0")
    assert sent["damage"]["torn_bytes"] > 0
    assert ended["reason"] == "timed out"  # its end was never recorded
    assert ended["frames"]["received"] == whole_frames
    is_whole(service.result(ended), whole_frames)


def test_a_tape_with_faults_is_served_and_they_are_counted(session, replayed):
    service, replay = replayed
    faults = ("--drop=0.05", "--duplicate=0.05", "--corrupt=0.05", "--seed=2")
    lost_on_wire = 'messages_lost_total{reason="on_wire",stream="det"}'
    before = service.metric(lost_on_wire)
    sent, ended = replay(session.tape, "--speed", "0", *faults)
    assert sent["dropped"] == 0
    frames = ended["frames"]
    assert FRAMES / 2 < frames["paired"] < FRAMES
    assert frames["lost"]["duplicate"] > 0
    assert better_than_empty(service.result(ended))
    wait_for(lambda: service.metric(lost_on_wire) > before, "losses on the wire")


def test_offline_gets_what_the_live_service_got(session, tmp_path):
    out = tmp_path / "offline.h5"
    (said,) = ran(
        tmp_path,
        "reconstruct",
        str(session.tape),
        f"--output={out}",
        "--seconds=2",
        "--set=engine.threads=1",
    )
    assert said["exposures"] == FRAMES
    assert Path(said["picture"]).read_bytes().startswith(b"\x89PNG")
    result = read_result(out)
    assert np.array_equal(places(result), places(session.live))
    assert better_than_empty(result)
    assert result.provenance["config"]["engine"]["threads"] == 1

    (score,) = ran(tmp_path, "score", str(out), str(session.truth), "--json")
    aligned, flat = score["aligned"], score["flat_aligned"]
    assert aligned["psnr_amplitude_db"] > flat["psnr_amplitude_db"] + 3
    assert aligned["psnr_phase_db"] > flat["psnr_phase_db"] + 3
    assert score["frc"]["half_bit"]["resolution_m"] < 5 * result.pixel_m[0]


def test_a_probe_of_another_result_may_be_the_first(session, tmp_path):
    known = (
        "--set=first_probe.source=file",
        f"--set=first_probe.file={session.truth}",
        "--set=probe.known=true",
    )
    out = tmp_path / "known.h5"
    tape = str(session.tape)
    ran(tmp_path, "reconstruct", tape, "-o", str(out), "--seconds=0.5", *known)
    (score,) = ran(tmp_path, "score", str(out), str(session.truth), "--json")
    assert score["probe_error"] < 1e-3
