"""The tables of deploy/README.md beside what a real run serves."""

import threading
import urllib.request

import pytest

from ptystream.service.live import Service
from tests.deploy.exposition import between, families, labels_table, metrics_table
from tests.service.test_live import served
from tests.system.beam import Beam


def scraped(service):
    url = service.addresses()["http"] + "/metrics"
    with urllib.request.urlopen(url, timeout=10) as reply:
        return reply.read().decode()


def series(text):
    return {
        (sample.name, *sorted(sample.labels.items()))
        for family in families(text)
        for sample in family.samples
    }


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """What is served before and after a scan, and the scan's name."""
    quick = ("refine.max_s=0.6", "publish.every_s=0.1")
    config = tmp_path_factory.mktemp("results")
    with Beam() as beam, Service(served(beam, config, *quick)) as service:
        before = scraped(service)
        beam.wait()
        scan = beam.scan()
        service.run(threading.Event(), scans=1)
        return before, scraped(service), scan


def test_the_tables_are_what_a_real_run_serves(run, deploy):
    _, text, _ = run
    page = (deploy / "README.md").read_text()
    assert between(page, "metrics") == metrics_table(text)
    assert between(page, "labels") == labels_table(text)


def test_a_run_adds_no_series(run):
    before, after, scan = run
    assert series(before) == series(after)
    assert scan not in after
    assert len(series(after)) < 300
