"""The whole service within the test's process; system tests run it in its own."""

import json
import threading
import time
import urllib.request

import pytest

from ptystream.config import Config
from ptystream.errors import ConfigError
from ptystream.publish.client import ControlClient
from ptystream.service.live import Service
from tests.service.exposures import config
from tests.system.beam import Beam

FREE = "tcp://127.0.0.1:0"


def served(beam: Beam, folder, *flags: str) -> Config:
    endpoints = beam.endpoints
    return config(
        f"detector.endpoint={endpoints['detector']}",
        f"positions.endpoint={endpoints['positions']}",
        "detector.ring_mib=32",
        f"publish.results={folder}",
        "publish.picture=false",
        f"publish.control={FREE}",
        f"publish.status={FREE}",
        f"publish.preview={FREE}",
        "publish.metrics=127.0.0.1:0",
        *flags,
    )


@pytest.fixture
def beam():
    with Beam() as beam:
        yield beam


def test_it_ends_after_so_many_scans_and_tells_of_each(beam, tmp_path):
    told = []
    with Service(served(beam, tmp_path)) as service:
        beam.wait()
        scans = [beam.scan(), beam.scan()]
        service.run(threading.Event(), scans=2, finished=told.append)
        assert not service.hangs
    assert [t["scan"] for t in told] == scans
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert {t["reason"] for t in told} == {"complete"}
    assert sorted(str(p) for p in tmp_path.glob("*.h5")) == sorted(
        t["result"] for t in told
    )


def test_it_tells_of_the_scan_that_a_stop_cut_short(beam, tmp_path):
    told, stop = [], threading.Event()
    with Service(served(beam, tmp_path)) as service:
        beam.wait()
        scan = beam.start()
        beam.expose(scan, 0, 60)
        threading.Timer(1.0, stop.set).start()
        service.run(stop, finished=told.append)
    assert [(t["scan"], t["reason"]) for t in told] == [(scan, "aborted")]


def test_status_is_safe_as_json_before_anything_has_come(beam, tmp_path):
    with Service(served(beam, tmp_path)) as service:
        status = json.loads(json.dumps(service.status(), allow_nan=False))
    assert (status["state"], status["run"], status["lag_s"]) == ("idle", None, None)


def test_every_loss_of_every_kind_is_a_series_from_the_start(beam, tmp_path):
    with Service(served(beam, tmp_path)) as service:
        url = service.addresses()["http"] + "/metrics"
        with urllib.request.urlopen(url, timeout=10) as reply:
            text = reply.read().decode()
    for name in (
        'frames_lost_total{reason="backlog"}',
        'frames_lost_total{reason="far"}',
        'frames_lost_total{reason="dark"}',
        'frames_lost_total{reason="no_position"}',
        'messages_lost_total{reason="undecodable",stream="pos"}',
        'messages_lost_total{reason="ring_full",stream="det"}',
        'strays_total{stream="det"}',
        "receiver_restarts_total",
    ):
        assert f"ptystream_{name} 0.0" in text, name


@pytest.mark.parametrize("address", ["80", "localhost", ":", "host:port"])
def test_a_metrics_address_that_is_none_is_refused(beam, tmp_path, address):
    with pytest.raises(ConfigError, match="HOST:PORT"):
        Service(served(beam, tmp_path, f'publish.metrics="{address}"'))


def test_an_address_that_is_taken_leaves_nothing_behind(beam, tmp_path):
    with Service(served(beam, tmp_path)) as service:
        taken = service.addresses()["control"]
        other = Service(served(beam, tmp_path, f"publish.control={taken}"))
        with pytest.raises(ConfigError, match="can't bind"):
            other.__enter__()
        with ControlClient(taken) as client:
            assert client.ask("ping")["ok"]
    deadline_s = time.monotonic() + 5
    while any(t.name in ("intake", "engine") for t in threading.enumerate()):
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
