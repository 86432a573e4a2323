"""The announcer before the service's real control socket, fed by a real RunEngine."""

import time

import bluesky.plan_stubs as bps
import bluesky.plans as bp
import bluesky.preprocessors as bpp
import numpy as np
import pytest
from event_model import compose_run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ophyd_async.core import init_devices, soft_signal_rw

from ptystream.bluesky.callbacks import RUNS, WAITING, Announcer
from tests.bluesky.test_documents import anything


def wait_for(met, timeout_s=10):
    deadline_s = time.monotonic() + timeout_s
    while not met():
        assert time.monotonic() < deadline_s, "never"
        time.sleep(0.01)


@pytest.fixture
def announcer(service):
    with Announcer(
        service.addresses[0], energy="dcm_energy", angle="zpsth"
    ) as announcer:
        yield announcer


def settled(announcer):
    """Close, which sends what waits; return what was counted."""
    assert announcer.close()
    return announcer.stats()


def baseline_run(**metadata):
    """Return a run's documents up to the baseline, and what stops it."""
    run = compose_run(metadata=metadata)
    key = {"source": "s", "dtype": "number", "shape": []}
    stream = run.compose_descriptor(
        name="baseline",
        data_keys={"dcm_energy": {**key, "units": "keV"}, "zpsth": key},
        configuration={
            "dcm": {
                "data": {"dcm_crystal": 1},
                "timestamps": {"dcm_crystal": 1.0},
                "data_keys": {"dcm_crystal": key},
            }
        },
        object_keys={"dcm": ["dcm_energy"], "zpsth": ["zpsth"]},
    )
    data = {"dcm_energy": 9.5, "zpsth": -30.0}
    event = stream.compose_event(data=data, timestamps=dict.fromkeys(data, 1.0))
    documents = [
        ("start", run.start_doc),
        ("descriptor", stream.descriptor_doc),
        ("event", event),
    ]
    return documents, ("stop", run.compose_stop())


def test_a_run_is_announced_as_its_documents_come(service, announcer):
    documents, stop = baseline_run(scan_id=7, shape=(3, 4))
    for name, document in [*documents, stop]:
        announcer(name, document)
    assert settled(announcer).sent == 4
    uid = documents[0][1]["uid"]
    assert service.names() == ["configure", "configure", "configure", "close"]
    assert service.asked[-1][1] == {"uid": uid}
    first, last = service.asked[0][1], service.asked[2][1]
    assert first["start_document"]["scan_id"] == 7
    assert (first["frames"], first["uid"]) == (12, uid)
    assert last["start_document"] == first["start_document"]
    assert last["baseline"] == {"dcm_energy": 9.5, "zpsth": -30.0}
    assert last["configuration"] == {"dcm_crystal": 1}
    assert last["geometry"] == {
        "energy_ev": {"value": 9500.0, "origin": "baseline: dcm_energy"},
        "angle_deg": {"value": -30.0, "origin": "baseline: zpsth"},
    }


def test_a_runengine_feeds_it(engine, service, announcer):
    with init_devices():
        dcm_energy = soft_signal_rw(float, 9.0, units="keV")
    engine.subscribe(announcer)
    engine(bpp.baseline_wrapper(bp.count([dcm_energy]), [dcm_energy]))
    wait_for(lambda: "close" in service.names())
    configured = [a for n, a in service.asked if n == "configure"]
    assert configured[-1]["geometry"]["energy_ev"]["value"] == 9000.0
    assert configured[-1]["start_document"]["plan_name"] == "count"


def test_the_second_reading_of_a_baseline_changes_nothing(service, announcer):
    documents, _ = baseline_run()
    after = {**documents[2][1], "data": {"dcm_energy": 1.0, "zpsth": 1.0}}
    for name, document in [*documents, ("event", after)]:
        announcer(name, document)
    stats = settled(announcer)
    assert (stats.sent, stats.ignored) == (3, 1)


def test_pages_are_read_as_well(service, announcer):
    documents, _ = baseline_run()
    page = {"descriptor": documents[1][1]["uid"], "data": {"dcm_energy": [8.0, 9.0]}}
    for name, document in [*documents[:2], ("event_page", page)]:
        announcer(name, document)
    settled(announcer)
    assert service.asked[-1][1]["geometry"]["energy_ev"]["value"] == 8000.0


def test_derived_runs_are_ignored_even_without_their_start(service, announcer):
    run = compose_run(metadata={"original_run_uid": "raw"})
    key = {"source": "ptystream", "dtype": "number", "shape": []}
    stream = run.compose_descriptor(
        name="recon", data_keys={"loss": key}, object_keys={"ptystream": ["loss"]}
    )
    for name, document in [
        ("start", run.start_doc),
        ("descriptor", stream.descriptor_doc),
        ("stop", run.compose_stop()),
    ]:
        announcer(name, document)
    assert settled(announcer).ignored == 3
    assert service.asked == []


def test_a_run_whose_start_was_missed_is_known_by_its_descriptor(service, announcer):
    documents, stop = baseline_run()
    for name, document in [*documents[1:], stop]:
        announcer(name, document)
    settled(announcer)
    assert service.asked[1][1]["geometry"]["energy_ev"]["value"] == 9500.0
    assert "start_document" not in service.asked[1][1]


@given(order=st.permutations(range(4)), again=st.lists(st.integers(0, 3), max_size=4))
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_documents_late_missing_or_repeated_harm_nothing(service, order, again):
    documents, stop = baseline_run()
    all_of_them = [*documents, stop]
    with Announcer(service.addresses[0]) as announcer:
        for number in [*order, *again]:
            announcer(*all_of_them[number])
    stats = announcer.stats()
    assert stats.refused == stats.failed == stats.dropped == 0
    assert stats.sent + stats.ignored == len(order) + len(again)


@given(
    name=st.sampled_from(["start", "descriptor", "event", "event_page", "stop"]),
    document=st.dictionaries(st.text(max_size=8), anything, max_size=4),
)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_nonsense_is_counted(service, announcer, name, document):
    before = announcer.stats()
    announcer(name, document)
    wait_for(lambda: announcer.stats() != before)


def test_arrays_and_long_lists_do_not_harm(service, announcer):
    points = np.zeros((100, 100))
    announcer("start", {"uid": "u", "time": 1.0, "points": points, "mask": np.eye(2)})
    settled(announcer)
    assert service.asked[0][1]["start_document"]["mask"] == [[1.0, 0.0], [0.0, 1.0]]
    assert "points" not in service.asked[0][1]["start_document"]


def test_it_never_waits_and_counts_what_it_drops():
    with Announcer("tcp://127.0.0.1:1") as announcer:
        began_s = time.monotonic()
        for number in range(2 * WAITING):
            announcer("start", {"uid": str(number), "time": 1.0})
        assert time.monotonic() - began_s < 0.5
        assert announcer.stats().dropped >= WAITING - 1
    stats = announcer.stats()
    assert stats.failed == 2 * WAITING - stats.dropped


def test_what_a_dead_service_missed_is_said_again(service):
    documents, _ = baseline_run(scan_id=3)
    with Announcer(service.addresses[0]) as announcer:
        service.__exit__()
        announcer(*documents[0])
        wait_for(lambda: announcer.stats().failed == 1)
        service.__enter__()
        announcer(*documents[1])
        announcer(*documents[2])
        wait_for(lambda: announcer.stats().sent == 2)
    assert service.asked[-1][1]["start_document"]["scan_id"] == 3


def test_runs_are_bounded(service, announcer):
    for number in range(3 * RUNS):
        announcer("start", {"uid": str(number), "time": 1.0})
    settled(announcer)
    assert len(announcer._runs) == RUNS


def test_a_plan_is_not_held_up_by_a_dead_service(engine):
    with Announcer("tcp://127.0.0.1:1") as announcer:
        engine.subscribe(announcer)

        @bpp.run_decorator(md={})
        def plan():
            yield from bps.sleep(0.05)

        began_s = time.monotonic()
        engine(plan())
        assert time.monotonic() - began_s < 0.5
