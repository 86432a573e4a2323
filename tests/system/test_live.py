"""A beamline and the service as two processes."""

import signal
import time
from pathlib import Path

import pytest

from tests.system.conftest import FRAMES, as_json, is_whole, wait_for

pytestmark = [pytest.mark.system, pytest.mark.timeout(150)]


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
    assert provenance["config"]["refine"]["max_steps"] == 400
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
    # The two senders close one after the other.
    gone = {"detector": False, "positions": False}
    wait_for(
        lambda: as_json(service.get("/readyz")[1])["checks"].items() >= gone.items(),
        "neither connected",
    )
    assert service.get("/readyz")[0] == 503
    assert service.get("/healthz")[0] == 200
