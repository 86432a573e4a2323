import contextlib
import http.client
import json
import socket
import threading
import time
import urllib.error
import urllib.request
from urllib.parse import urlsplit

import pytest
from prometheus_client import CollectorRegistry

from ptystream.errors import ConfigError
from ptystream.metrics import Metrics
from ptystream.publish.runner import SinkStats
from ptystream.publish.sink import FrameCounts
from ptystream.status import ServiceStatus, StatusServer


class Checks:
    def __init__(self) -> None:
        self.alive = {"engine": True}
        self.ready = {"receiver": False}


@pytest.fixture
def checks():
    return Checks()


@pytest.fixture
def serve(checks):
    with contextlib.ExitStack() as stack:

        def start(**given) -> StatusServer:
            registry = CollectorRegistry()
            Metrics(registry)
            server = StatusServer(
                registry, lambda: checks.alive, lambda: checks.ready, **given
            )
            return stack.enter_context(server)

        yield start


def get(server, path, method="GET"):
    request = urllib.request.Request(server.address + path, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status, response.read(), response.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(), error.headers


def connect(server) -> socket.socket:
    at = urlsplit(server.address)
    assert at.hostname == "127.0.0.1"
    assert at.port
    return socket.create_connection((at.hostname, at.port), timeout=10)


def hung_up(peer: socket.socket) -> bool:
    try:
        return peer.recv(1) == b""
    except TimeoutError:
        return False


def test_metrics_are_served(serve):
    server = serve()
    status, body, headers = get(server, "/metrics?name=x")
    assert status == 200
    assert b"ptystream_frames_received_total 0.0" in body
    assert headers["Content-Type"].startswith("text/plain")
    assert server.alive()


def test_health_and_readiness_differ_and_name_what_fails(serve, checks):
    server = serve()
    assert get(server, "/healthz")[0] == 200
    status, body, _ = get(server, "/readyz")
    assert status == 503
    assert json.loads(body) == {"ok": False, "checks": {"receiver": False}}
    checks.ready, checks.alive = {"receiver": True}, {"engine": False}
    assert get(server, "/readyz")[0] == 200
    assert get(server, "/healthz")[0] == 503


def test_a_check_that_raises_is_500_and_the_server_lives(serve, checks):
    server = serve()
    checks.alive = None
    assert get(server, "/healthz")[0] == 500
    checks.alive = {}
    assert get(server, "/healthz")[0] == 200


@pytest.mark.parametrize("path", ["/", "/metrics/", "/../etc/passwd", "/status"])
def test_nothing_else_is_there(serve, path):
    assert get(serve(), path)[0] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD"])
def test_only_get_is_answered(serve, method):
    assert get(serve(), "/metrics", method)[0] == 501


def test_rubbish_and_dropped_connections_do_no_harm(serve, capfd):
    server = serve()
    for rubbish in (b"\x00\xff\r\n\r\n", b"GET\r\n\r\n", b"G" * 70_000 + b"\r\n", b""):
        with connect(server) as peer, contextlib.suppress(OSError):
            peer.sendall(rubbish)
    assert get(server, "/healthz")[0] == 200
    assert capfd.readouterr().err == ""


def test_a_client_that_trickles_is_cut_off(serve):
    server = serve(deadline_s=0.3)
    with connect(server) as peer:
        peer.settimeout(0.05)
        deadline_s = time.monotonic() + 10
        with contextlib.suppress(ConnectionError):
            while not hung_up(peer):
                peer.sendall(b"x")
                assert time.monotonic() < deadline_s, "still connected"
    assert get(server, "/healthz")[0] == 200


def test_connections_are_bounded(serve):
    server = serve(max_connections=2)
    with connect(server) as first, connect(server) as second:
        status = get(server, "/healthz")[0]
        assert status == 503
        for peer in (first, second):
            peer.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
            assert b"200 OK" in peer.recv(1000)
    deadline_s = time.monotonic() + 10
    while get(server, "/healthz")[0] != 200:
        assert time.monotonic() < deadline_s
    assert server.alive()


def test_leaving_cuts_off_what_is_open(checks):
    server = StatusServer(CollectorRegistry(), dict, dict)
    with server:
        peer = connect(server)
        peer.sendall(b"GET /hea")
    with peer, contextlib.suppress(ConnectionResetError):
        assert peer.recv(1) == b""
    assert not server.alive()


def test_many_at_once_are_served(serve):
    server = serve()
    codes: list[int] = []
    threads = [
        threading.Thread(target=lambda: codes.append(get(server, "/metrics")[0]))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == [200] * 6


def test_a_port_in_use_is_a_config_error(serve):
    server = serve()
    port = urlsplit(server.address).port
    with (
        pytest.raises(ConfigError, match="can't serve HTTP"),
        StatusServer(CollectorRegistry(), dict, dict, port=port or 0),
    ):
        pass


def test_responses_carry_safe_headers(serve):
    at = urlsplit(serve().address)
    with contextlib.closing(http.client.HTTPConnection(at.netloc, timeout=10)) as peer:
        peer.request("GET", "/healthz")
        response = peer.getresponse()
        response.read()
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Cache-Control"] == "no-store"
    assert "Python" not in response.headers["Server"]


def test_the_status_is_json_safe():
    status = ServiceStatus(
        state="scanning",
        run="r",
        frames=FrameCounts(received=3, lost={"late": 1}),
        message_age_s={"det": 0.5, "pos": float("nan")},
        sinks=(SinkStats("files", 1, 0, 0, 0, 0.0),),
    ).as_dict()
    json.dumps(status, allow_nan=False)
    assert status["frames"]["lost"] == {"late": 1}
    assert status["quality"]["held_out_error"] is None
    assert status["message_age_s"] == {"det": 0.5, "pos": None}
    assert status["sinks"][0]["name"] == "files"
    assert status["steps_per_s"] is None
