"""A beamline and the service as two processes."""

import json
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import zmq

from ptystream.publish.images import decode_picture
from tests.system.conftest import FRAMES, as_json, is_whole, wait_for

pytestmark = [pytest.mark.system, pytest.mark.timeout(150)]


def messages(address: str, count: int, timeout_s: float = 20) -> list[list[bytes]]:
    """Return the next messages of a PUB socket."""
    deadline_s = time.monotonic() + timeout_s
    got: list[list[bytes]] = []
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.subscribe(b"")
        socket.connect(address)
        while len(got) < count:
            left_s = deadline_s - time.monotonic()
            assert left_s > 0, f"{len(got)} of {count} messages"
            if socket.poll(int(1000 * left_s)):
                got.append(socket.recv_multipart())
    return got


def test_a_scan_arrives_whole_and_everybody_is_told(simulate, serve, tmp_path):
    truth = tmp_path / "truth.h5"
    beamline, endpoints = simulate(f"--truth={truth}")
    service = serve(endpoints, "--set=publish.picture=true")
    ended = service.ended()
    sent = beamline.line()
    assert (ended["reason"], ended["scan"]) == ("complete", sent["scan"])
    frames = ended["frames"]
    assert (frames["received"], frames["paired"]) == (FRAMES, FRAMES)
    assert sum(frames["lost"].values()) == 0

    result = service.result(ended)
    is_whole(result)
    assert (result.run, result.scan) == (ended["run"], ended["scan"])
    provenance = result.provenance
    assert provenance["config"]["refine"]["max_s"] == 1.5
    assert provenance["geometry"]["distance_m"] == 1.0
    assert set(provenance["origins"].values()) == {"stream"}
    assert provenance["scan"]["optics"]["kind"] == "zone_plate"
    picture = Path(ended["result"]).with_suffix(".png")
    wait_for(picture.exists, "the picture")
    assert picture.read_bytes().startswith(b"\x89PNG")

    count = wait_for(lambda: service.metric("frames_received_total"), "a count")
    assert count == FRAMES
    assert service.metric('scans_total{reason="complete"}') == 1
    time.sleep(1.2)  # two more turns of the metrics: nothing may be counted twice
    assert service.metric("frames_received_total") == FRAMES
    assert service.metric("frames_paired_total") == FRAMES
    assert service.metric("step_seconds_count") > 50
    assert service.metric('sink_failures_total{sink="files"}') == 0


def test_health_and_readiness_follow_the_beamline(simulate, serve):
    beamline, endpoints = simulate("--set=scan.scans=2", "--set=scan.gap_s=60")
    service = serve(endpoints)
    wait_for(lambda: service.get("/readyz")[0] == 200, "ready")
    assert as_json(service.get("/healthz")[1])["ok"]
    service.ended()
    beamline.send(signal.SIGTERM)
    assert beamline.ends() == 0, beamline.said()
    wait_for(lambda: service.get("/readyz")[0] == 503, "not ready")
    assert not as_json(service.get("/readyz")[1])["checks"]["detector"]
    assert service.get("/healthz")[0] == 200


def test_status_counts_up_and_previews_decode(simulate, serve):
    _, endpoints = simulate("--set=scan.rate_hz=40")
    service = serve(endpoints)
    picture = decode_picture(messages(service.addresses["preview"], 1, 30)[0])
    status = [
        as_json(parts[-1].decode())
        for parts in messages(service.addresses["status"], 12)
    ]
    seq = [s["seq"] for s in status]
    assert seq == sorted(set(seq))
    assert len({s["instance"] for s in status}) == 1
    ended = service.ended()
    assert {s["run"] for s in status} >= {ended["run"]}
    assert picture.about["run"] == ended["run"]
    names = {image.name: image.values() for image in picture.images}
    assert names["object_amplitude"].shape == names["object_phase"].shape
    assert np.isfinite(names["object_phase"]).all()
    # Nothing happens any more, so what comes now are heartbeats, one a second.
    beats = messages(service.addresses["status"], 4)
    times = [json.loads(parts[-1])["time"] for parts in beats]
    assert 1.5 < times[-1] - times[1] < 4
    assert json.loads(beats[-1][-1])["run"] is None


def test_the_control_socket_holds_resumes_saves_and_stops(simulate, serve):
    beamline, endpoints = simulate(
        "--set=scan.shape=[24, 24]", "--set=scan.rate_hz=60", "--set=scan.scans=2"
    )
    service = serve(endpoints)
    wait_for(lambda: service.status()["step"] > 5, "steps")
    assert service.ask("hold")["state"] == "held"
    time.sleep(0.6)  # longer than publish.every_s: the status is of after the hold
    held = service.status()
    time.sleep(0.6)
    later = service.status()
    assert (later["state"], later["step"]) == ("held", held["step"])
    assert later["frames"]["received"] > held["frames"]["received"]
    assert service.ask("resume")["state"] == "live"
    wait_for(lambda: service.status()["step"] > held["step"], "steps again")

    assert service.ask("save")["ok"]
    wait_for(lambda: list(service.results.glob("*.h5")), "a saved result")
    assert service.ask("stop")["ok"]
    ended = service.ended()
    assert (ended["reason"], ended["refined"]) == ("aborted", "stopped by request")
    assert service.ask("stop")["ok"]  # there is nothing to stop now ...
    unknown = service.ask("dance")
    assert not unknown["ok"]
    assert "dance" in unknown["error"]
    ended = service.ended()  # ... and the next scan is none the worse for it
    assert ended["reason"] == "complete", service.child.said()
    assert ended["frames"]["paired"] == 576
    assert beamline.ends() == 0
