"""A RunEngine that flies a simulated beamline's process before a real service."""
# ruff: noqa: F811  (fixtures are imported by name)

import json
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bluesky.plan_stubs as bps
import bluesky.plans as bp
import bluesky.preprocessors as bpp
import h5py
import numpy as np
import pytest
from bluesky.utils import FailedStatus, RunEngineInterrupted
from ophyd_async.core import init_devices, soft_signal_rw

from ptystream.bluesky.callbacks import Announcer
from ptystream.bluesky.device import PtychoLive
from ptystream.bluesky.images import PtychoImages
from ptystream.bluesky.plans import ask, fly_ptycho, fly_until, tile_until
from ptystream.bluesky.refine import refine_here
from ptystream.bluesky.simulated import SimulatedBeamline
from ptystream.errors import ConfigError
from ptystream.publish.files import read_result
from tests.bluesky.conftest import documents, engine, named, rows  # noqa: F401
from tests.publish.test_documents_live import free_addresses
from tests.system.conftest import SMALL, Serving, wait_for

pytestmark = [pytest.mark.system, pytest.mark.timeout(150)]

SMALL_FLAGS = [flag for flag in SMALL if "address" not in flag and "preset" not in flag]
LONG = {"scan.shape": [60, 12], "scan.line_pause_s": 0.1}
"""720 frames in 10 s."""


@dataclass
class Hutch:
    """All that a plan needs."""

    live: PtychoLive
    images: PtychoImages
    beam: SimulatedBeamline
    service: Serving


@pytest.fixture
def hutch(engine, serve, request):
    """A hutch; parametrized: the service's further flags."""
    flags = getattr(request, "param", ())
    detector, encoder = free_addresses(2)
    endpoints = {
        "detector": f"ptys+sub://{detector}",
        "positions": f"ptys+sub://{encoder}",
    }
    service = serve(endpoints, "--set=publish.every_s=0.1", *flags)
    control, status = (service.addresses[name] for name in ("control", "status"))
    with init_devices(timeout=20):
        live = PtychoLive(control, status, heartbeat_s=3.0)
        images = PtychoImages(control, status, size=64)
        beam = SimulatedBeamline(
            f"tcp://{detector}", f"tcp://{encoder}", "demo", SMALL_FLAGS
        )
    engine.closing(live)
    engine.closing(images)
    return Hutch(live, images, beam, service)


def test_a_flight_from_its_start_to_the_result(engine, hutch, documents):
    with Announcer(hutch.service.addresses["control"], energy="energy") as announcer:
        engine.subscribe(announcer)
        with init_devices():
            energy = soft_signal_rw(float, 9.0, units="keV")
        plan = fly_ptycho(
            hutch.live,
            [hutch.beam],
            prepare={"beam": {}},
            images=hutch.images,
            refine=True,
            md={"sample": "ours", "shape": [12, 12]},
        )
        flown = engine(bpp.baseline_wrapper(plan, [energy])).plan_result
    ended = hutch.service.ended()
    assert (flown.derived_uid, flown.stopped_early) == (ended["run"], False)
    assert rows(documents, "live-frames")[-1] == 144
    assert rows(documents, "live-phase")[-1] == "done"
    assert named(documents, "stop")[0]["exit_status"] == "success"
    result = read_result(Path(ended["result"]))
    scan = result.provenance["scan"]
    assert scan["bluesky_uid"] == flown.raw_uid
    assert (scan["sample"], scan["start_document"]["plan_name"]) == (
        "ours",
        "fly_ptycho",
    )
    origins = result.provenance["origins"]
    assert origins["wavelength_m"] == "baseline: energy"
    assert origins["distance_m"] == "stream"
    told = result.provenance["geometry"]["wavelength_m"]
    assert told == pytest.approx(1.239841984e-6 / 9000)
    descriptor = next(d for d in named(documents, "descriptor") if d["name"] == "live")
    recorded = descriptor["configuration"]["live"]["data"]
    assert recorded["live-wavelength_m"] == told
    assert "wavelength_m: baseline: energy" in recorded["live-origins"]
    assert recorded["live-object_field"] == "auto"
    assert recorded["live-instance"] == hutch.live.link.latest["instance"]
    (resource,) = named(documents, "stream_resource")
    path = Path(resource["uri"].removeprefix("file://localhost"))
    datums = named(documents, "stream_datum")
    with h5py.File(path) as file:
        count = datums[-1]["indices"]["stop"]
        assert count >= 1
        assert file["object"].shape[1:] == (64, 64)
        assert np.isfinite(file["object"][:count, 20:30, 20:30]).all()
        assert (np.diff(file["time"][:count, 0]) > 0).all()


def test_it_stops_when_the_image_is_good_and_says_why(
    engine, hutch, documents, record_property
):
    messages: list[tuple[float, Any]] = []
    engine.msg_hook = lambda message: messages.append((time.time(), message))
    flown = engine(
        fly_until(hutch.live, [hutch.beam], quality=0.1, prepare={"beam": LONG})
    ).plan_result
    assert flown.stopped_early
    assert "held-out error" in flown.reason
    (stop,) = named(documents, "stop")
    assert (stop["exit_status"], stop["reason"]) == ("success", flown.reason)
    assert rows(documents, "live-reason")[-1] == flown.reason
    (start,) = named(documents, "start")
    assert start["target"] == {"quality": 0.1}
    # The second status in a row that reached the target was the signal.
    errors = rows(documents, "live-held_out_error")
    times = [t for page in named(documents, "event_page") for t in page["time"]]
    reached = [t for t, e in zip(times, errors, strict=True) if e <= 0.1]
    stopping = next(n for n, (_, m) in enumerate(messages) if m.command == "stop")
    record_property("stop_after_s", messages[stopping][0] - reached[1])
    record_property("stopped_after_s", messages[stopping + 1][0] - reached[1])
    assert messages[stopping][0] - reached[1] < 0.5
    assert messages[stopping + 1][0] - reached[1] < 1.0  # its processes have ended
    assert not hutch.beam._process
    ended = hutch.service.ended()
    assert (ended["run"], ended["reason"]) == (flown.derived_uid, "complete")
    assert flown.reason in ended["refined"]
    assert 20 < ended["frames"]["received"] < 500


def test_a_resolution_that_nobody_measures_is_refused_before_anything_moves(
    engine, hutch, documents
):
    plan = fly_until(hutch.live, [hutch.beam], resolution_m=1e-7)
    with pytest.raises(ConfigError, match=r"start it with quality.halves = true"):
        engine(plan)
    assert documents == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "hutch",
    [("--set=quality.halves=true", "--set=quality.frc_steps=20")],
    indirect=True,
)
def test_it_stops_at_the_resolution_that_was_wanted(engine, hutch, documents):
    most_m = 1.2e-7
    plan = fly_until(
        hutch.live, [hutch.beam], resolution_m=most_m, prepare={"beam": LONG}
    )
    flown = engine(plan).plan_result
    assert flown.stopped_early
    assert flown.reason.startswith("resolution")
    assert rows(documents, "live-resolution_m")[-1] <= most_m
    assert hutch.service.ended()["frames"]["received"] < 720


@pytest.mark.slow
def test_a_second_flight_is_not_ended_by_the_first_ones_quality(engine, hutch):
    for _ in range(2):
        plan = fly_until(
            hutch.live,
            [hutch.beam],
            coverage=0.9,
            min_frames=60,
            prepare={"beam": LONG},
        )
        flown = engine(plan).plan_result
        assert flown.stopped_early
        assert hutch.service.ended()["frames"]["received"] >= 60


def test_a_service_killed_in_flight_ends_the_plan_and_the_motion(
    engine,
    hutch,
    documents,
):
    killed_s = []

    def kill(name, document):
        if name == "event_page" and not killed_s:
            hutch.service.child.send(signal.SIGKILL)
            killed_s.append(time.monotonic())

    engine.subscribe(kill)
    plan = fly_until(hutch.live, [hutch.beam], quality=1e-9, prepare={"beam": LONG})
    with pytest.raises(FailedStatus) as error:
        engine(plan)
    # The heartbeat's patience is 3 s; the flight itself would have gone on for 10.
    assert time.monotonic() - killed_s[0] < 8
    assert "no status from the service" in str(error.value.__cause__)
    (stop,) = named(documents, "stop")
    assert stop["exit_status"] == "fail"
    assert "no status from the service" in stop["reason"]
    assert hutch.beam._process is None or hutch.beam._process.returncode is not None


@pytest.mark.slow
def test_snapshots_are_counted_like_any_detectors(engine, hutch, documents):
    engine(fly_ptycho(hutch.live, [hutch.beam], prepare={"beam": LONG}))
    # The last run is refined for 1.5 s: what it publishes meanwhile is counted.
    engine(bp.count([hutch.images], 2))
    events = [d for n, d in documents if n == "stream_datum"]
    assert events[-1]["indices"]["stop"] == 2


@pytest.mark.slow
def test_tiles_are_flown_until_each_is_good(engine, hutch):
    with init_devices():
        stage_y, stage_x = soft_signal_rw(float), soft_signal_rw(float)
    flights = engine(
        tile_until(
            hutch.live,
            [hutch.beam],
            [stage_y, stage_x],
            [[0.0, 0.0], [0.0, 5.0]],
            quality=0.1,
            prepare={"beam": LONG},
        )
    ).plan_result
    assert [flown.stopped_early for flown in flights] == [True, True]


@pytest.mark.slow
def test_where_it_is_weak_it_is_flown_again(engine, hutch, documents):
    with init_devices():
        stage_y, stage_x = soft_signal_rw(float), soft_signal_rw(float)
    engine(fly_ptycho(hutch.live, [hutch.beam], prepare={"beam": {}}, refine=True))
    flights = engine(
        refine_here(
            hutch.live,
            [hutch.beam],
            [stage_y, stage_x],
            hutch.service.addresses["preview"],
            window_m=[2e-7, 2e-7],
            prepare={"beam": {}},
        )
    ).plan_result
    assert len(flights) == 1
    again = named(documents, "start")[-1]
    assert (again["plan_name"], again["by"]) == ("refine_here", "confidence")
    y_um = engine(bps.rd(stage_y)).plan_result
    assert y_um == pytest.approx(again["refines"]["y_m"] * 1e6)
    assert abs(again["refines"]["y_m"] - 5e-6) < 2e-6  # the scan's centre is at 5 um


@pytest.mark.slow
def test_a_plan_asks_and_the_user_aborts(engine, hutch, documents):
    def plan():
        yield from ask(hutch.live, "hold")
        held = hutch.service.status()["state"]
        yield from ask(hutch.live, "resume")
        return held

    assert engine(plan()).plan_result == "held"
    flown = fly_until(hutch.live, [hutch.beam], quality=1e-9, prepare={"beam": LONG})

    seen = threading.Event()
    engine.subscribe(lambda name, document: seen.set(), "event_page")

    def pause():
        assert seen.wait(40)
        engine.request_pause(defer=False)

    pausing = threading.Thread(target=pause)
    pausing.start()
    with pytest.raises(RunEngineInterrupted):
        engine(flown)
    pausing.join()
    engine.abort("enough for today")
    assert named(documents, "stop")[-1]["exit_status"] == "abort"
    ended = hutch.service.ended()
    assert ended["reason"] == "aborted"


@pytest.mark.slow
def test_the_live_device_costs_a_flight_next_to_nothing(engine, hutch, record_property):
    beam = hutch.beam

    @bpp.stage_decorator([beam])
    @bpp.run_decorator(md={})
    def bare():
        yield from bps.prepare(beam, LONG, wait=True)
        yield from bps.kickoff(beam, wait=True)
        yield from bps.complete(beam, wait=True)

    spent_s: dict[str, list[float]] = {"bare": [], "live": []}
    for _ in range(3):
        for name, plan in (
            ("bare", bare()),
            ("live", fly_ptycho(hutch.live, [beam], prepare={"beam": LONG})),
        ):
            began_s = time.monotonic()
            engine(plan)
            spent_s[name].append(time.monotonic() - began_s)
            wait_for(lambda: hutch.service.status()["state"] == "idle", "idle", 30)
    overhead = np.median(spent_s["live"]) / np.median(spent_s["bare"]) - 1
    record_property("spent_s", json.dumps(spent_s))
    assert overhead < 0.05, json.dumps(spent_s)
