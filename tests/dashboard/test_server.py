import http.client
import json
import logging

import pytest

from ptystream.errors import ConfigError
from tests.dashboard.conftest import TOKEN, a_picture, finding, until

BEARER = {"Authorization": f"Bearer {TOKEN}"}


def test_the_page_holds_every_plot_and_nothing_from_elsewhere(service, serve_page):
    page = serve_page(service.addresses)
    status, body, _ = page.get("")
    assert status == 200
    for name in (
        "amplitude",
        "phase",
        "coverage",
        "confidence",
        "probe",
        "pattern",
        "error",
    ):
        assert f'data-plot="{name}"' in body
    assert "https://" not in body
    for asset in ("page.css", "page.js", "maps.js"):
        assert page.get(f"assets/{asset}")[0] == 200
    assert page.get("assets/../index.html")[0] in (403, 404)


def test_the_state_is_told_in_words_and_never_cached(service, serve_page):
    service.says |= {
        "exposures": 9,
        "health": [finding("positions lag", "by 3 frames", 0.8)],
    }
    page = serve_page(service.addresses)
    until(lambda: page.state()["here"], "the service")
    status, state, headers = page.get("state")
    assert status == 200
    assert headers["Content-Type"].startswith("application/json")
    assert headers["Cache-Control"] == "no-store"
    assert state["scan"] == "scan-1"
    assert state["health"][0]["value"] == "80% sure"
    assert state["acts"] is False


def test_an_order_needs_the_token(service, serve_page, caplog):
    page = serve_page(service.addresses, token=TOKEN)
    until(lambda: page.state()["here"], "the service")
    with caplog.at_level(logging.DEBUG):
        for headers in ({}, {"Authorization": "Bearer wrong-but-long-enough"}):
            assert page.post("order/stop", **headers)[0] == 401
        assert service.asked == []
        assert page.post("order/ping", **BEARER) == (200, {"ok": True})
        for name in ("hold", "resume", "save"):
            assert page.post(f"order/{name}", **BEARER)[0] == 200
        assert page.post("order/stop", {"run": "run-1"}, **BEARER)[0] == 200
    names = [name for name, _ in service.asked]
    assert names == ["hold", "resume", "save", "stop"]
    assert service.asked[-1][1] == {"uid": "run-1"}
    assert TOKEN not in caplog.text
    assert "wrong-but-long-enough" not in caplog.text


def test_without_a_token_file_the_page_only_shows(service, serve_page):
    page = serve_page(service.addresses)
    status, body = page.post("order/stop", **BEARER)
    assert (status, body["ok"]) == (403, False)
    assert "read-only" in body["error"]
    assert service.asked == []


@pytest.mark.parametrize(
    "foreign",
    [{"Origin": "http://evil.example.org"}, {"Host": "evil.example.org"}],
)
def test_other_pages_may_neither_look_nor_act(service, serve_page, foreign):
    page = serve_page(service.addresses, token=TOKEN)
    assert page.get("state", **foreign)[0] == 403
    assert page.post("order/stop", **BEARER, **foreign)[0] == 403
    assert service.asked == []


def test_a_socket_from_another_page_is_refused(service, serve_page):
    page = serve_page(service.addresses)
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Origin": "http://evil.example.org",
    }
    connection = http.client.HTTPConnection(page.address.split("/")[2], timeout=10)
    connection.request("GET", "/ws", headers=upgrade)
    reply = connection.getresponse()
    connection.close()
    assert reply.status == 403


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("order/abort", {}, 404),
        ("order/stop", {"run": 3}, 400),
        ("order/stop", {"rum": "x"}, 400),
        ("order/stop", "text", 400),
    ],
)
def test_an_order_that_is_none_is_refused(service, serve_page, path, body, status):
    page = serve_page(service.addresses, token=TOKEN)
    assert page.post(path, body, **BEARER)[0] == status
    assert service.asked == []


def test_what_the_service_refuses_is_told(service, serve_page):
    page = serve_page(service.addresses, token=TOKEN)
    service.refuses = "run x is not open"
    status, body = page.post("order/stop", **BEARER)
    assert (status, body["error"]) == (409, "run x is not open")
    service.stop()
    assert page.post("order/hold", **BEARER)[0] == 502


def test_markup_in_metadata_is_only_ever_json_text(service, serve_page):
    evil = "<img src=x onerror=alert(1)>"
    service.says |= {"scan": evil, "detail": evil}
    page = serve_page(service.addresses)
    until(lambda: page.state()["scan"] == evil, "the scan")
    assert evil not in page.get("")[1]
    assert page.get("state")[2]["X-Content-Type-Options"] == "nosniff"


def test_who_comes_when_all_places_are_taken_is_told(service, serve_page):
    page = serve_page(service.addresses, sessions=2)
    for _ in range(2):
        assert 'data-plot="amplitude"' in page.get("")[1]
    assert "All places are taken" in page.get("")[1]
    assert page.dashboard.refused == 1
    # Nobody holds these pages open: their places are free again after a while.
    until(lambda: 'data-plot="amplitude"' in page.get("")[1], "a free place", 30, 1.0)


def test_a_preview_without_sense_leaves_the_last_one(service, serve_page, caplog):
    page = serve_page(service.addresses)
    heard = page.dashboard._feed.heard
    service.server.show(a_picture("run-1"))
    until(lambda: heard().picture, "a preview")
    good = page.dashboard._newest(heard())
    bad = a_picture("run-1", (1, 0))
    service.server.show(bad)
    until(lambda: heard().seen >= 2, "another")
    assert page.dashboard._newest(heard()) is good
    assert "can't be shown" in caplog.text


def test_a_port_that_is_taken_is_told(service, serve_page):
    from ptystream.dashboard.server import Dashboard

    page = serve_page(service.addresses)
    port = int(page.address.rstrip("/").rpartition(":")[2])
    with (
        pytest.raises(ConfigError, match=f"127.0.0.1:{port}"),
        Dashboard(service.addresses, port=port),
    ):
        pass


def test_the_state_is_json_without_nan(service, serve_page):
    page = serve_page(service.addresses)
    until(lambda: page.state()["here"], "the service")
    json.dumps(page.state(), allow_nan=False)
