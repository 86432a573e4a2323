"""Grafana's queries and the rules: a real Prometheus scrapes a real run."""

import json
import math
import re
import signal
import threading
from contextlib import contextmanager

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from ptystream.metrics import Metrics
from tests.deploy.exposition import families
from tests.deploy.programs import program
from tests.deploy.prometheus import Prometheus
from tests.system.beam import Beam
from tests.system.conftest import wait_for

WINDOW = "10s"
"""For Grafana's own: 20 scrapes."""


def dashboard(deploy):
    return json.loads((deploy / "grafana/dashboards/ptystream.json").read_text())


def queries(board):
    """Every query of the board: of panels and of annotations."""
    for panel in board["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]
    for note in board["annotations"]["list"]:
        yield note["name"], note["expr"]


def plain(expression):
    filled = expression.replace("$__rate_interval", WINDOW).replace("$instance", ".*")
    assert "$" not in filled, f"a variable that the board doesn't have: {expression}"
    return filled


@contextmanager
def exposing(beam):
    """Keep a scan going: whole rows of frames until the end."""
    stop = threading.Event()
    scan = beam.start()

    def go_on():
        for first in range(0, len(beam), 6):
            if stop.is_set():
                break
            beam.expose(scan, first, first + 6)
            stop.wait(0.4)

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@pytest.mark.system
@pytest.mark.timeout(180)
def test_every_query_has_a_result_and_every_rule_is_well(serve, deploy, tmp_path):
    binary = program("prometheus", "Debian's prometheus")
    board = dashboard(deploy)
    with Beam() as beam:
        service = serve(
            beam.endpoints,
            "--set=quality.halves=true",
            "--set=quality.frc_steps=20",
            f"--set=checkpoint.tape={tmp_path / 'beside.tape'}",
        )
        beam.wait()
        target = service.addresses["http"].removeprefix("http://")
        source = deploy / "prometheus"
        with (
            Prometheus(binary, source, target, tmp_path / "prometheus") as server,
            exposing(beam),
        ):
            server.wait_for('up{job="ptystream"} == 1')
            server.wait_for(f"rate(ptystream_step_seconds_count[{WINDOW}]) > 0")
            server.wait_for(f"rate(ptystream_pixel_lag_seconds_count[{WINDOW}]) > 0")
            server.wait_for("ptystream:pixel_lag_seconds:p95 > 0")
            server.wait_for("ptystream:error_over_empty:ratio > 0")
            server.wait_for("ptystream_resolution_metres > 0")
            for title, expression in queries(board):
                series = server.query(plain(expression))
                if expression.startswith("ALERTS"):
                    continue  # it parses; that nothing fires is told below
                assert series, f"{title}: nothing from {expression}"
                values = [float(one["value"][1]) for one in series]
                assert any(map(math.isfinite, values)), (
                    f"{title}: {expression} {values}"
                )
            assert not server.query('ALERTS{alertstate="firing"}')
            assert not server.query('{__name__=~"ptystream_.*_created"}')
            groups = server.get("rules")["groups"]
            rules = [rule for group in groups for rule in group["rules"]]
            assert len(rules) >= 18
            assert {rule["health"] for rule in rules} == {"ok"}, rules
            gone = 'ALERTS{alertname="PtystreamGone"}'
            assert not server.query(gone)
            service.child.send(signal.SIGKILL)
            wait_for(lambda: server.query(gone), "the service is gone, and nobody says")


def test_the_board_is_one_that_grafana_reads(deploy):
    board = dashboard(deploy)
    variables = {v["name"] for v in board["templating"]["list"]}
    text = json.dumps(board)
    used = set(re.findall(r"\$\{?(\w+)", text)) - {"__rate_interval", "__all"}
    assert used == variables
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)
    places = [tuple(panel["gridPos"].values()) for panel in board["panels"]]
    assert all(x + w <= 24 for x, y, w, h in places)
    cells = [(x + i, y) for x, y, w, h in places for i in range(w)]
    assert len(set(cells)) == len(cells), "panels overlap"


def test_the_board_shows_every_metric(deploy):
    """A metric that nobody can see is one too many."""
    registry = CollectorRegistry()
    Metrics(registry)
    text = " ".join(expression for _, expression in queries(dashboard(deploy)))
    text += (deploy / "prometheus/rules.yml").read_text()
    names = {family.name for family in families(generate_latest(registry).decode())}
    assert len(names) > 30
    assert {name for name in names if name not in text} == set()
