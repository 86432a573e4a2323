"""PtychoLive in a real RunEngine, before the service's real sockets."""

import asyncio
import math
import threading
import time

import bluesky.plan_stubs as bps
import bluesky.plans as bp
import bluesky.preprocessors as bpp
import pytest
from bluesky.run_engine import call_in_bluesky_event_loop
from bluesky.utils import FailedStatus
from ophyd_async.core import NotConnectedError, init_devices, set_mock_value

from ptystream.bluesky.device import ROWS, PtychoInfo, PtychoLive
from ptystream.bluesky.recorded import RECORDED
from tests.bluesky.conftest import named, rows


@pytest.fixture
def live(engine, service):
    with init_devices(timeout=10):
        live = PtychoLive(*service.addresses, heartbeat_s=2.0)
    engine.closing(live)
    return live


def flown(live, info, after=None):
    """Arm, kick off, wait, collect."""

    @bpp.stage_decorator([live])
    @bpp.run_decorator(md={})
    def plan():
        yield from bps.prepare(live, info, wait=True)
        yield from bps.declare_stream(live, name="live", collect=True)
        yield from bps.kickoff(live, wait=True)
        if after is not None:
            after()
        yield from bps.complete(live, wait=True)
        yield from bps.collect(live, name="live")

    return plan()


def later(*steps):
    """Do steps in another thread, a moment apart; return the thread."""

    def run():
        for step in steps:
            time.sleep(0.1)
            step()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_a_step_scan_reads_the_open_run(engine, service, live, documents):
    service.opens("a", frames=12)
    time.sleep(0.2)
    engine(bp.count([live]))
    (event,) = named(documents, "event")
    assert event["data"]["live-held_out_error"] == 0.2
    assert event["data"]["live-frames"] == 12
    assert event["data"]["live-derived_uid"] == "derived-a"
    (descriptor,) = named(documents, "descriptor")
    assert sorted(descriptor["hints"]["live"]["fields"]) == [
        "live-converged",
        "live-coverage",
        "live-frames",
        "live-frames_lost",
        "live-held_out_error",
        "live-lag_s",
        "live-resolution_m",
    ]
    assert descriptor["data_keys"]["live-lag_s"]["units"] == "s"


def test_each_run_records_how_it_is_reconstructed_and_where_its_geometry_is_from(
    engine, service, live, documents
):
    service.opens("a")
    time.sleep(0.2)
    engine(bp.count([live]))
    (descriptor,) = named(documents, "descriptor")
    recorded = descriptor["configuration"]["live"]
    data = {k.removeprefix("live-"): v for k, v in recorded["data"].items()}
    assert set(data) == set(RECORDED)
    assert data["version"] == "1"
    assert data["instance"] == service.server.instance
    assert data["presets"] == "profiles/hxn"
    assert (data["object_field"], data["probe_modes"]) == ("auto", 2)
    assert (data["wavelength_m"], data["distance_m"]) == (1.24e-10, 2.05)
    assert (data["detector_pixel_y_m"], data["detector_pixel_x_m"]) == (75e-6, 55e-6)
    assert data["origins"] == "distance_m: stream; wavelength_m: baseline: dcm_th"
    assert recorded["data_keys"]["live-wavelength_m"]["units"] == "m"
    assert recorded["data_keys"]["live-halves"]["dtype"] == "boolean"


def test_a_geometry_is_that_of_ones_own_run(engine, service, live):
    service.opens("another")
    time.sleep(0.2)

    async def armed():
        await live.arm(PtychoInfo("mine"))
        return await live.wavelength_m.get_value(), await live.origins.get_value()

    wavelength_m, origins = call_in_bluesky_event_loop(armed())
    assert math.isnan(wavelength_m)
    assert origins == ""


def test_a_service_that_is_not_there_does_not_connect(engine):
    with pytest.raises(NotConnectedError, match="no status"), init_devices(timeout=0.3):
        gone = PtychoLive("tcp://127.0.0.1:1", "tcp://127.0.0.1:2")  # noqa: F841


def test_it_can_be_mocked(engine, documents):
    with init_devices(mock=True):
        live = PtychoLive("tcp://127.0.0.1:1", "tcp://127.0.0.1:2")
    set_mock_value(live.held_out_error, 0.5)
    engine(bp.count([live]))
    assert named(documents, "event")[0]["data"]["live-held_out_error"] == 0.5


def test_a_flight_collects_a_row_for_what_is_new(engine, service, live, documents):
    steps = [
        lambda: service.opens("u", 10),
        lambda: service.opens("u", 20, 0.15),
        lambda: service.becomes(lag_s=0.7),
        lambda: service.ends("u"),
    ]
    info = PtychoInfo("u", {"plan_name": "p"}, frames=100, until="refined")
    threads = []
    engine(flown(live, info, lambda: threads.append(later(*steps))))
    threads[0].join()
    assert rows(documents, "live-frames") == [10, 20, 100]
    assert rows(documents, "live-phase") == ["live", "live", "done"]
    assert rows(documents, "live-held_out_error") == [0.2, 0.15, 0.1]
    assert rows(documents, "live-derived_uid") == ["derived-u"] * 3
    ((name, args),) = service.asked
    assert (name, args["uid"], args["frames"]) == ("arm", "u", 100)
    assert args["start_document"] == {"plan_name": "p"}
    assert named(documents, "stop")[0]["exit_status"] == "success"


def test_all_frames_in_is_enough_unless_the_final_result_is_wanted(
    engine, service, live
):
    def begin():
        service.opens("u", 10)
        service.becomes(state="refining")

    began_s = time.monotonic()
    engine(flown(live, PtychoInfo("u"), begin))
    assert time.monotonic() - began_s < 2
    # What is refined goes on: unstaging did not stop it.
    assert service.names() == ["arm"]


def test_the_last_runs_status_never_ends_the_next(engine, service, live, documents):
    service.ends("before", error=0.001)
    time.sleep(0.2)
    seen = []

    def begin():
        seen.append(live.values())
        later(lambda: service.opens("u"), lambda: service.ends("u"))

    engine(flown(live, PtychoInfo("u", until="refined"), begin))
    assert seen[0].frames == 0
    assert seen[0].held_out_error != 0.001
    assert rows(documents, "live-derived_uid") == ["derived-u"] * 2


def test_a_run_that_is_given_up_fails_with_the_services_words(engine, service, live):
    info = PtychoInfo("u")
    with pytest.raises(FailedStatus) as error:
        engine(flown(live, info, lambda: service.ends("u", "error")))
    assert "gave run u up: no geometry" in str(error.value.__cause__)


def test_a_service_that_dies_ends_the_flight(engine, service, live, documents):
    began_s = time.monotonic()
    with pytest.raises(FailedStatus) as error:
        engine(flown(live, PtychoInfo("u"), lambda: service.__exit__()))
    assert "no status from the service" in str(error.value.__cause__)
    # The heartbeat's patience, and that of the stop that nobody answers.
    assert time.monotonic() - began_s < 2.0 + 2.0 + 2.0
    assert named(documents, "stop")[0]["exit_status"] == "fail"
    service.__enter__()


def test_a_service_begun_anew_ends_the_flight(engine, service, live):
    def restart():
        service.server.instance = "another"
        service.server._seq = 0

    with pytest.raises(FailedStatus) as error:
        engine(flown(live, PtychoInfo("u"), restart))
    assert "was restarted, run u lost" in str(error.value.__cause__)


def test_a_flight_of_which_nothing_comes_ends(engine, service, live):
    with pytest.raises(FailedStatus) as error:
        engine(flown(live, PtychoInfo("u", patience_s=0.5)))
    assert "nothing new for 0.5 s, 0 frames, waiting" in str(error.value.__cause__)
    assert service.asked[-1] == ("stop", {"uid": "u", "why": "stopped by the plan"})


def test_a_service_that_forgot_the_run_is_noticed_at_kickoff(engine, service, live):
    service.obeys = False
    with pytest.raises(FailedStatus) as error:
        engine(flown(live, PtychoInfo("u")))
    assert "knows nothing of run u" in str(error.value.__cause__)


def test_kickoff_comes_after_prepare(engine, live):
    with pytest.raises(FailedStatus):
        engine(bpp.run_wrapper(bps.kickoff(live, wait=True)))


def test_enough_is_told_and_noted(engine, service, live, documents):
    def enough():
        service.opens("u")
        time.sleep(0.2)

    @bpp.run_decorator(md={})
    def plan():
        yield from bps.prepare(live, PtychoInfo("u"), wait=True)
        yield from bps.declare_stream(live, name="live", collect=True)
        yield from bps.kickoff(live, wait=True)
        enough()
        yield from bps.sleep(0.3)
        yield from bps.wait_for([lambda: live.enough("good", refine=False)])
        yield from bps.collect(live, name="live")

    engine(plan())
    args = {"uid": "u", "why": "good", "refine": False}
    assert service.asked[-1] == ("enough", args)
    assert rows(documents, "live-reason")[-1] == "good"


def test_enough_of_a_run_that_ended_by_itself_is_only_noted(engine, service, live):
    async def flight():
        await live.arm(PtychoInfo("u"))
        service.opens("u")
        service.refuses = "run u is not open"
        await live.link.newer(live.link.count)
        await live.enough("good")
        return live._rows[-1][1].reason

    assert call_in_bluesky_event_loop(flight()) == "good"


def test_rows_are_bounded_and_the_loss_is_counted(engine, service, live):
    async def flood():
        await live.arm(PtychoInfo("u"))
        status = {**live.link.latest, "run": "d", "raw_uid": "u", "state": "live"}
        for step in range(ROWS + 5):
            live._note({**status, "step": step + 1})

    call_in_bluesky_event_loop(flood())
    assert len(live._rows) == ROWS
    assert live.rows_dropped == 5


def test_no_rows_make_no_page(engine, live):
    async def pages():
        return [page async for page in live.collect_pages()]

    assert call_in_bluesky_event_loop(pages()) == []


def test_stop_tolerates_a_dead_service(engine, service, live):
    call_in_bluesky_event_loop(live.arm(PtychoInfo("u")))
    service.__exit__()
    began_s = time.monotonic()
    engine(bps.stop(live))
    assert time.monotonic() - began_s < 3
    service.__enter__()


def test_signals_can_be_watched_from_asyncio(engine, service, live):
    async def watch():
        heard = asyncio.Event()
        key = live.frames.name
        live.frames.subscribe_reading(
            lambda reading: heard.set() if reading[key]["value"] == 33 else None
        )
        service.opens("x", 33)
        async with asyncio.timeout(5):
            await heard.wait()

    call_in_bluesky_event_loop(watch())
