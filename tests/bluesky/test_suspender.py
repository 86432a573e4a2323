import threading
import time

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
import pytest
from ophyd_async.core import init_devices

from ptystream.bluesky.device import PtychoLive
from ptystream.bluesky.suspender import suspend_on_bad_data


@pytest.fixture
def live(engine, service):
    with init_devices(timeout=10):
        live = PtychoLive(*service.addresses, heartbeat_s=0.5)
    engine.closing(live)
    return live


def points(engine, count=10):
    @bpp.run_decorator(md={})
    def plan():
        for _ in range(count):
            yield from bps.checkpoint()
            yield from bps.sleep(0.05)

    began_s = time.monotonic()
    engine(plan())
    return time.monotonic() - began_s


def test_frames_that_lag_hold_the_plan_until_they_come_in_time(engine, service, live):
    service.opens("a")
    suspender = suspend_on_bad_data(live, settle_s=0)
    engine.install_suspender(suspender)
    bad = threading.Timer(0.2, lambda: service.becomes(lag_s=60.0))
    good = threading.Timer(1.2, lambda: service.becomes(lag_s=0.1))
    bad.start(), good.start()
    spent_s = points(engine)
    assert 1.2 < spent_s < 4
    engine.remove_suspender(suspender)
    bad.join(), good.join()


def test_a_fault_in_the_data_holds_the_plan_and_is_named(engine, service, live):
    finding = {"fault": "positions lag", "detail": "by 2 frames", "sure": 0.9}
    service.opens("a")
    suspender = suspend_on_bad_data(live, settle_s=0)
    engine.install_suspender(suspender)
    service.becomes(health=[finding])
    said = ""
    deadline_s = time.monotonic() + 5
    while not said and time.monotonic() < deadline_s:
        said = suspender.get_futures()[1]
    assert "live: positions lag" in said
    over = threading.Timer(0.5, lambda: service.ends("a"))
    over.start()
    assert 0.5 < points(engine) < 5
    assert suspender.get_futures() == ([], "")
    engine.remove_suspender(suspender)
    over.join()


def test_a_service_that_is_gone_holds_the_plan(engine, service, live):
    suspender = suspend_on_bad_data(live, settle_s=0)
    engine.install_suspender(suspender)
    service.__exit__()
    time.sleep(1.0)
    assert suspender.tripped
    back = threading.Timer(0.5, service.__enter__)
    back.start()
    assert 0.5 < points(engine) < 6
    back.join()
    engine.remove_suspender(suspender)
    assert suspender._sig.get() is True


def test_healthy_data_hold_nothing(engine, service, live):
    service.opens("a")
    suspender = suspend_on_bad_data(live)
    engine.install_suspender(suspender)
    assert points(engine) < 1.5
    engine.remove_suspender(suspender)
