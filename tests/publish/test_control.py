import json
import subprocess
import sys
import threading
import time

import msgpack
import pytest
import zmq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ptystream.errors import ConfigError, StoppedError
from ptystream.publish.client import ControlClient
from ptystream.publish.control import ControlServer
from ptystream.publish.images import decode_picture
from ptystream.publish.preview import PreviewSink, make_preview
from ptystream.publish.requests import MAX_REQUEST_BYTES
from ptystream.publish.sink import FrameCounts


class Service:
    """A state that commands change."""

    def __init__(self) -> None:
        self.state = "idle"
        self.args: dict = {}

    def status(self) -> dict:
        return {"run": "r1", "scan": "s1", "state": self.state, "loss": float("nan")}

    def stop(self, args: dict) -> dict:
        self.state, self.args = "stopping", args
        return {"stopped": True}

    def refuse(self, args: dict) -> None:
        raise ConfigError("no scan is open")

    def break_(self, args: dict) -> None:
        raise ZeroDivisionError

    def unspeakable(self, args: dict) -> dict:
        return {"x": object()}


@pytest.fixture
def service():
    return Service()


@pytest.fixture
def server(service):
    commands = {
        "stop": service.stop,
        "refuse": service.refuse,
        "break": service.break_,
        "unspeakable": service.unspeakable,
    }
    with ControlServer(commands, service.status, heartbeat_s=0.2) as server:
        yield server


@pytest.fixture
def client(server):
    with ControlClient(server.control_address, timeout_s=10) as client:
        yield client


@pytest.fixture
def raw(server):
    """A DEALER that sends anything."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(server.control_address)
        yield socket


def subscribed(context, address):
    socket = context.socket(zmq.SUB)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.SUBSCRIBE, b"")
    socket.connect(address)
    return socket


def reply_on(socket) -> dict:
    assert socket.poll(10_000), "no reply"
    return json.loads(socket.recv_multipart()[-1])


def test_ports_are_bound_on_loopback_and_reported(server):
    addresses = (server.control_address, server.status_address, server.preview_address)
    for address in addresses:
        assert address.startswith("tcp://127.0.0.1:")
        assert not address.endswith(":0")
    assert len(set(addresses)) == 3
    assert server.alive()


def test_a_command_is_called_and_its_reply_shows_the_state_after_it(client, service):
    reply = client.ask("stop", grace_s=3)
    assert reply["ok"]
    assert reply["result"] == {"stopped": True}
    assert (reply["run"], reply["scan"], reply["state"]) == ("r1", "s1", "stopping")
    assert service.args == {"grace_s": 3}


def test_built_in_commands(client):
    assert client.ask("ping")["ok"]
    assert client.ask("status")["result"]["loss"] is None
    assert "stop" in client.ask("commands")["result"]["commands"]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("refuse", "no scan is open"),
        ("break", "ZeroDivisionError"),
        ("unspeakable", "object"),
        ("launch", "unknown command 'launch', expected"),
    ],
)
def test_a_command_that_fails_is_an_error_reply(client, command, message):
    reply = client.ask(command)
    assert not reply["ok"]
    assert message in reply["error"]
    assert client.ask("ping")["ok"]


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([b"{"], "request"),
        ([b""], "request"),
        ([b"\xff\xfe"], "request"),
        ([b"[1]"], "request"),
        ([b'{"id": 1}'], "cmd"),
        ([b'{"cmd": "ping", "arg": {}}'], "arg"),
        ([b'{"cmd": "ping", "args": [1]}'], "args"),
        ([b'{"cmd": "ping", "id": {"a": 1}}'], "id"),
        ([b'{"cmd": "%s"}' % (b"x" * 100)], "cmd"),
        ([b"[" * 60_000], "request"),
        ([b"a", b"b", b"c"], "3 parts"),
        ([b" " * (MAX_REQUEST_BYTES + 1)], "at most"),
    ],
    ids=range(12),
)
def test_hostile_requests_get_an_error_and_the_service_lives_on(
    raw, client, parts, message
):
    raw.send_multipart(parts)
    reply = reply_on(raw)
    assert not reply["ok"]
    assert reply["id"] is None
    assert message in reply["error"]
    assert client.ask("ping")["ok"]


def test_a_huge_request_only_costs_its_sender_the_connection(raw, client, server):
    raw.send(b"x" * (4 << 20))
    assert client.ask("ping")["ok"]
    assert server.alive()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=50), min_size=1, max_size=4))
def test_any_bytes_are_answered(raw, parts):
    raw.send_multipart(parts)
    assert "ok" in reply_on(raw)


def test_a_plain_req_socket_is_understood(server):
    with zmq.Context() as context, context.socket(zmq.REQ) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(server.control_address)
        socket.send(b'{"cmd": "ping", "id": "abc"}')
        reply = reply_on(socket)
    assert reply["ok"]
    assert reply["id"] == "abc"


def test_replies_and_status_share_one_sequence(server, client):
    with zmq.Context() as context, subscribed(context, server.status_address) as sub:
        seen = []
        for _ in range(5):
            seen.append(client.ask("ping")["seq"])
            seen.append(reply_on(sub)["seq"])
    assert len(set(seen)) == len(seen)
    assert seen[::2] == sorted(seen[::2])
    assert seen[1::2] == sorted(seen[1::2])


def test_status_beats_and_tells_changes_at_once(service):
    with (
        ControlServer({}, service.status, heartbeat_s=60) as server,
        zmq.Context() as context,
        subscribed(context, server.status_address) as sub,
    ):
        assert reply_on(sub)["state"] == "idle"  # because we subscribed
        service.state = "scanning"
        server.changed()
        first = reply_on(sub)
        assert first["state"] == "scanning"
        assert first["loss"] is None
        assert first["instance"] == server.instance
    with (
        ControlServer({}, service.status, heartbeat_s=0.05) as server,
        zmq.Context() as context,
        subscribed(context, server.status_address) as sub,
    ):
        beats = [reply_on(sub)["seq"] for _ in range(4)]
    assert beats == sorted(set(beats))


def test_changes_in_a_storm_are_merged(server):
    before = server.stats().seq
    until_s = time.monotonic() + 0.2
    while time.monotonic() < until_s:
        server.changed()
    assert server.stats().seq - before < 30


def test_the_last_state_is_published_on_leaving(service):
    with zmq.Context() as context:
        with ControlServer({}, service.status, heartbeat_s=60) as server:
            sub = subscribed(context, server.status_address)
            assert reply_on(sub)["state"] == "idle"
            service.state = "gone"
        with sub:
            assert reply_on(sub)["state"] == "gone"


def test_preview_reaches_early_and_late_subscribers(server, snapshot, info):
    sink = PreviewSink(server.show, max_px=32)
    with zmq.Context() as context, subscribed(context, server.preview_address) as sub:
        sink.start(info())
        sink.update(snapshot(), FrameCounts())
        assert sub.poll(10_000)
        picture = decode_picture(sub.recv_multipart())
        with subscribed(context, server.preview_address) as late:
            assert late.poll(10_000), "a late subscriber sees nothing"
            again = decode_picture(late.recv_multipart())
    assert picture.about["run"] == "run-1"
    assert picture.about["quality"]["held_out_error"] == 0.25
    assert again.about["seq"] > picture.about["seq"]
    assert [i.name for i in again.images] == [i.name for i in picture.images]


def test_only_the_newest_preview_waits(service, snapshot):
    turned, go = threading.Event(), threading.Event()

    def slow(args: dict) -> None:
        turned.set()
        assert go.wait(10)

    with (
        ControlServer({"slow": slow}, service.status) as server,
        ControlClient(server.control_address, timeout_s=10) as client,
        zmq.Context() as context,
        subscribed(context, server.preview_address) as sub,
    ):
        asker = threading.Thread(target=client.ask, args=("slow",))
        asker.start()
        assert turned.wait(10)
        for step in range(50):
            server.show(make_preview(snapshot(step=step), max_px=16))
        go.set()
        asker.join()
        assert sub.poll(10_000)
        assert msgpack.unpackb(sub.recv_multipart()[0])["step"] == 49
        assert client.ask("ping")["ok"]
        assert server.stats().previews <= 2


def test_an_address_in_use_is_a_config_error(server, service):
    with (
        pytest.raises(ConfigError, match="can't bind"),
        ControlServer({}, service.status, control_address=server.control_address),
    ):
        pass


def test_a_silent_service_is_a_stopped_error():
    with zmq.Context() as context, context.socket(zmq.ROUTER) as deaf:
        port = deaf.bind_to_random_port("tcp://127.0.0.1")
        with (
            ControlClient(f"tcp://127.0.0.1:{port}", timeout_s=0.1) as client,
            pytest.raises(StoppedError, match="no reply to 'ping'"),
        ):
            client.ask("ping")


def test_a_late_reply_is_not_taken_for_another():
    with zmq.Context() as context, context.socket(zmq.ROUTER) as peer:
        peer.setsockopt(zmq.LINGER, 0)
        port = peer.bind_to_random_port("tcp://127.0.0.1")
        with ControlClient(f"tcp://127.0.0.1:{port}", timeout_s=0.2) as client:
            with pytest.raises(StoppedError):
                client.ask("first")
            identity, request = peer.recv_multipart()
            peer.send_multipart([identity, json.dumps({"id": 1}).encode()])
            peer.send_multipart([identity, json.dumps({"id": 2, "ok": 1}).encode()])
            assert client.ask("second")["ok"] == 1
    assert json.loads(request)["cmd"] == "first"


def test_the_client_imports_no_torch_and_no_recon():
    code = (
        "import sys, ptystream.publish.client;"
        "sys.exit(any(m.startswith(('torch', 'ptystream.recon')) for m in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
