"""Live, replayed and offline, the same exposures are used: by index."""

import random
import time
from pathlib import Path

import pytest

from ptystream.config import Config, load
from ptystream.ingest.scans import ScanClosed
from ptystream.service.intake import Intake
from ptystream.service.offline import load as load_scan
from ptystream.wire.messages import Exposure
from tests.system.beam import Beam
from tests.system.processes import FREE, Child

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]


def listening(endpoints: dict[str, str]) -> Config:
    flags = [f"{name}.endpoint={url}" for name, url in endpoints.items()]
    return load(environment={}, flags=[*flags, "scan.late_s=1"])


def used(intake: Intake) -> set[int]:
    """Return the indices of all exposures until the scan is closed."""
    found: list[int] = []
    deadline_s = time.monotonic() + 30
    while time.monotonic() < deadline_s:
        for event in intake.backlog.take(1024, 0.1):
            if isinstance(event, Exposure):
                found.append(event.frame.index)
            elif isinstance(event, ScanClosed):
                assert len(found) == len(set(found))
                return set(found)
    raise AssertionError(f"no end after {len(found)} exposures")


def scan_with_losses(beam: Beam, seed: int) -> set[int]:
    """Send a scan out of order, frames and positions missing; return what is whole."""
    lots = random.Random(seed)
    order = sorted(range(len(beam)), key=lambda i: i + lots.uniform(0, 6))
    unsent = set(lots.sample(range(len(beam)), 15))
    unplaced = set(lots.sample(range(len(beam)), 10))
    scan = beam.start()
    for index in order:
        if index not in unplaced:
            beam.place(scan, index)
        if index not in unsent:
            beam.send("det", beam.frame(scan, index))
    beam.end(scan)
    return set(range(len(beam))) - unsent - unplaced


def test_live_replayed_and_offline_use_the_same(tmp_path: Path):
    tape = tmp_path / "scan.tape"
    with Beam() as beam:
        where = [f"--{name}={url}" for name, url in beam.endpoints.items()]
        record = ("record", "-o", str(tape), "--scans=1", *where)
        with Child(tmp_path, *record) as recorder:
            recorder.line()
            with Intake(listening(beam.endpoints)) as intake:
                beam.wait(2)
                whole = scan_with_losses(beam, seed=5)
                live = used(intake)
            assert recorder.ends() == 0, recorder.said()
    assert live == whole
    bound = (f"--detector={FREE}", f"--positions={FREE}", "--speed=0")
    with Child(tmp_path, "replay", str(tape), *bound) as replay:
        said = replay.line()
        names = {"det": "detector", "pos": "positions"}
        urls = {names[n]: url.replace("tcp", "ptys+sub") for n, url in said.items()}
        with Intake(listening(urls)) as intake:
            assert used(intake) == live
    offline = load_scan(tape).exposures
    assert {e.frame.index for e in offline} == live
    assert len(offline) == len(live)
