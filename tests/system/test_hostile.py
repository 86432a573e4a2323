"""After any single bad thing the service still publishes for good data."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from ptystream.wire.messages import Samples
from tests.hostile import CORPUS, Hostile
from tests.system.beam import Beam
from tests.system.conftest import FRAMES, Serving, is_whole, wait_for
from tests.system.processes import Child

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def beam() -> Iterator[Beam]:
    with Beam() as beam:
        yield beam


@pytest.fixture(scope="module")
def service(beam: Beam, tmp_path_factory) -> Iterator[Serving]:
    """One service for all: whatever came before must not matter."""
    folder = tmp_path_factory.mktemp("hostile")
    patience = ("--set=scan.late_s=0.5", "--set=scan.idle_timeout_s=2")
    with Child(folder, "serve", *beam.serve_flags(folder, *patience)) as child:
        service = Serving(child, folder)
        beam.wait()
        yield service


@pytest.mark.parametrize("bad", CORPUS, ids=lambda bad: bad.name)
def test_between_good_data(beam: Beam, service: Serving, bad: Hostile):
    before = service.metric(bad.counted) if bad.counted else 0
    scan = beam.start()
    beam.expose(scan, 0, FRAMES // 2)
    for stream, item in bad.make(scan, beam.frame(scan, 20)):
        beam.send(stream, item)
    beam.expose(scan, FRAMES // 2, FRAMES)
    beam.end(scan)
    ended = service.ended(scan=scan)
    assert ended["reason"] == "complete", service.child.said()
    is_whole(service.result(ended))
    if bad.counted:
        name = bad.counted
        wait_for(lambda: service.metric(name) == before + 1, f"{name} of {before + 1}")
    assert service.get("/healthz")[0] == 200


def test_missing_frames_are_counted_and_the_rest_is_used(beam, service):
    before = service.metric('frames_lost_total{reason="missing"}')
    scan = beam.start()
    beam.send("pos", Samples(scan, 0, 10, beam.rows_m))
    for index in range(FRAMES):
        if index % 9:
            beam.send("det", beam.frame(scan, index))
    beam.end(scan, FRAMES)
    ended = service.ended(scan=scan)
    assert ended["frames"]["lost"]["missing"] == FRAMES // 9
    is_whole(service.result(ended), FRAMES - FRAMES // 9)
    name = 'frames_lost_total{reason="missing"}'
    wait_for(lambda: service.metric(name) == before + FRAMES // 9, name)


def test_a_message_too_large_costs_no_more_than_its_connection(beam, service):
    scan = beam.start()
    beam.expose(scan, 0, 20)
    beam.send("det", [b"ptys1/det/frame", b"x", bytes(64 << 20)])
    beam.end(scan)
    service.ended(scan=scan)
    wait_for(lambda: service.get("/readyz")[0] == 200, "connected again")
    beam.wait()
    scan = beam.scan()
    is_whole(service.result(service.ended(scan=scan)))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"geometry": None}, "wavelength_m"),
        ({"shape": (32, 30)}, "square"),
        ({"shape": (31, 31)}, "even"),
        ({"shape": None}, "expected square"),
    ],
    ids=["no geometry", "oblong", "odd", "no shape"],
)
def test_a_scan_that_cannot_be_used_says_why(beam, service, change, said):
    scan = beam.start(**change)
    beam.expose(scan, 0, 20)
    beam.end(scan)
    ended = service.ended(scan=scan)
    assert ended["reason"] == "error"
    assert said in ended["refined"]
    assert ended["result"] is None
    assert said in service.status()["detail"]
    is_whole(service.result(service.ended(scan=beam.scan())))
    assert service.status()["detail"] == ""


def test_frames_without_light_are_left_out(beam, service):
    """The shutter opens late; and there are no optics to guess the probe from."""
    scan = beam.start(meta={})
    beam.send("pos", Samples(scan, 0, 10, beam.rows_m))
    for index in range(FRAMES):
        frame = beam.frame(scan, index)
        dark = replace(frame, counts=np.zeros_like(frame.counts))
        beam.send("det", dark if index < 20 else frame)
    beam.end(scan)
    ended = service.ended(scan=scan)
    assert ended["frames"]["lost"]["dark"] == 20
    result = service.result(ended)
    assert result.positions_m is not None
    assert len(result.positions_m) == FRAMES - 20
    assert np.isfinite(result.object).all()


def test_a_scan_without_any_light_has_no_result(beam, service):
    scan = beam.start()
    beam.send("pos", Samples(scan, 0, 10, beam.rows_m))
    for index in range(40):
        frame = beam.frame(scan, index)
        beam.send("det", replace(frame, counts=np.zeros_like(frame.counts)))
    beam.end(scan)
    ended = service.ended(scan=scan)
    assert ended["reason"] == "complete"
    assert ended["result"] is None
    is_whole(service.result(service.ended(scan=beam.scan())))
