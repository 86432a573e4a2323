"""What the service offers to the world: status, previews, control."""

import json
import time
from collections.abc import Iterator

import numpy as np
import pytest
import zmq

from ptystream.publish.images import decode_picture
from tests.system.beam import Beam
from tests.system.conftest import FRAMES, Serving, as_json, is_whole, wait_for
from tests.system.processes import Child

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def beam() -> Iterator[Beam]:
    with Beam() as beam:
        yield beam


@pytest.fixture(scope="module")
def service(beam: Beam, tmp_path_factory) -> Iterator[Serving]:
    folder = tmp_path_factory.mktemp("sockets")
    with Child(folder, "serve", *beam.serve_flags(folder)) as child:
        service = Serving(child, folder)
        beam.wait()
        yield service


@pytest.fixture
def subscriber() -> Iterator[zmq.Socket[bytes]]:
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.subscribe(b"")
        yield socket


def received(socket: zmq.Socket[bytes], count: int) -> list[list[bytes]]:
    """Return the next messages of a SUB socket."""
    got: list[list[bytes]] = []
    while len(got) < count:
        assert socket.poll(20_000), f"{len(got)} of {count} messages"
        got.append(socket.recv_multipart())
    return got


def test_status_counts_up_and_beats(beam, service, subscriber):
    subscriber.connect(service.addresses["status"])
    received(subscriber, 1)
    ended = service.ended(scan=beam.scan())
    seen = []
    while not seen or not seen[-1]["finished_scans"]:
        seen.append(as_json(received(subscriber, 1)[0][-1].decode()))
    assert {s["run"] for s in seen} - {None} == {ended["run"]}
    # Nothing happens any more, so what comes now are heartbeats, one a second.
    seen += [json.loads(parts[-1]) for parts in received(subscriber, 3)]
    seq = [s["seq"] for s in seen]
    assert seq == sorted(set(seq))
    assert len({s["instance"] for s in seen}) == 1
    assert 1.5 < seen[-1]["time"] - seen[-3]["time"] < 4
    assert seen[-1]["state"] == "idle"


def test_previews_decode(beam, service, subscriber):
    subscriber.connect(service.addresses["preview"])
    ended = service.ended(scan=beam.scan())
    whole = service.result(ended).object.shape[1:]
    images: dict[str, np.ndarray] = {}
    while not images or images["object_amplitude"].shape != whole:  # until the last
        picture = decode_picture(received(subscriber, 1)[0])
        if picture.about["run"] == ended["run"]:
            images = {image.name: image.values() for image in picture.images}
    assert np.isfinite(images["object_phase"]).all()
    assert images["probe_amplitude"].max() > 0


def test_hold_stops_learning_but_not_taking(beam, service):
    scan = beam.start()
    beam.expose(scan, 0, 60)
    wait_for(lambda: service.status()["step"] > 5, "steps")
    assert service.ask("hold")["state"] == "held"
    time.sleep(0.5)  # longer than publish.every_s: the status is of after the hold
    held = service.status()
    beam.expose(scan, 60, FRAMES)
    wait_for(lambda: service.status()["exposures"] == FRAMES, "all exposures")
    assert service.status()["step"] == held["step"]
    assert service.ask("resume")["state"] == "live"
    wait_for(lambda: service.status()["step"] > held["step"], "steps again")
    beam.end(scan)
    is_whole(service.result(service.ended(scan=scan)))


def test_hold_shows_while_nothing_happens(service):
    assert service.ask("hold")["state"] == "held"
    assert service.ask("resume")["state"] == "idle"


def test_save_keeps_what_there_is(beam, service):
    scan = beam.start()
    beam.expose(scan, 0, FRAMES)
    wait_for(lambda: service.status()["step"] > 5, "steps")
    assert service.ask("save")["ok"]
    wait_for(lambda: list(service.results.glob(f"{scan}_*.h5")), "a saved result")
    beam.end(scan)
    service.ended(scan=scan)


@pytest.mark.parametrize(
    ("command", "word"), [("stop", "stopped"), ("abort", "aborted")]
)
def test_a_scan_is_cut_short_by_request(beam, service, command, word):
    scan = beam.start()
    beam.expose(scan, 0, 60)
    wait_for(lambda: service.status()["step"] > 60, "steps")
    assert service.ask(command)["ok"]
    ended = service.ended(scan=scan)
    assert (ended["reason"], ended["refined"]) == ("aborted", f"{word} by request")
    is_whole(service.result(ended), 60)
    beam.expose(scan, 60, 80)  # the beamline knows nothing of it yet
    beam.end(scan)
    is_whole(service.result(service.ended(scan=beam.scan())))


def test_a_stop_between_scans_does_not_cut_the_next(beam, service):
    assert service.status()["state"] == "idle"
    assert service.ask("stop")["ok"]
    ended = service.ended(scan=beam.scan())
    assert (ended["reason"], ended["refined"]) == ("complete", "the limit of 400 steps")


def test_an_unknown_command_is_refused_with_those_that_are(service):
    reply = service.ask("dance")
    assert not reply["ok"]
    assert "dance" in reply["error"]
    assert "resume" in reply["error"]
