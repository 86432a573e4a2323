"""Control, status and preview behind keys: who may look, who may command."""

import json
import select
import socket as socket_module
import threading
import time
from collections.abc import Iterator

import pytest
import zmq

from ptystream.errors import StoppedError
from ptystream.publish.client import ControlClient
from ptystream.publish.control import LOOKS, ControlServer
from ptystream.publish.documents_live import DocumentSink
from ptystream.publish.images import decode_picture
from ptystream.publish.preview import make_preview
from ptystream.publish.runner import SinkThread
from tests.publish.test_documents_live import free_addresses, process, received

STRANGERS = [("stranger", "service"), ("viewer", "stranger"), None]
"""A key on no list, a wrong key of the service, and none at all."""


@pytest.fixture
def obeyed() -> list[str]:
    """The commands that the service obeyed."""
    return []


@pytest.fixture
def server(keyring, obeyed) -> Iterator[ControlServer]:
    commands = {
        name: lambda args, name=name: obeyed.append(name) for name in ("stop", "past")
    }
    with ControlServer(
        commands,
        lambda: {"run": "r1", "scan": "s1", "state": "idle"},
        heartbeat_s=0.1,
        curve=keyring.admission(),
        looks=("past",),
    ) as server:
        yield server


def subscribed(context: zmq.Context, address: str, keys) -> zmq.Socket:
    socket = context.socket(zmq.SUB)
    if keys is not None:
        keys.apply(socket)
    socket.subscribe(b"")
    socket.connect(address)
    return socket


def test_a_controller_commands_and_looks(server, keyring, obeyed, snapshot):
    operator = keyring.of("operator")
    with ControlClient(server.control_address, 10, operator) as client:
        assert client.ask("stop")["ok"]
        assert client.ask("status")["result"]["state"] == "idle"
    assert obeyed == ["stop"]
    with zmq.Context() as context:
        with subscribed(context, server.status_address, operator) as socket:
            assert socket.poll(10_000)
            assert json.loads(socket.recv())["run"] == "r1"
        server.show(make_preview(snapshot()))
        with subscribed(context, server.preview_address, operator) as socket:
            assert socket.poll(10_000)
            assert decode_picture(socket.recv_multipart()).images


def test_a_reader_looks_and_is_told_that_it_may_not_command(server, keyring, obeyed):
    viewer = keyring.of("viewer")
    with ControlClient(server.control_address, 10, viewer) as client:
        refused = client.ask("stop")
        assert (refused["ok"], refused["error"]) == (
            False,
            "stop: this key may only look",
        )
        assert all(client.ask(name)["ok"] for name in (*LOOKS, "past"))
    assert obeyed == ["past"]
    with (
        zmq.Context() as context,
        subscribed(context, server.status_address, viewer) as socket,
    ):
        assert socket.poll(10_000)


def test_an_identity_that_is_made_up_makes_nobody_a_controller(server, keyring, obeyed):
    viewer, operator = keyring.of("viewer"), keyring.of("operator")
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.setsockopt(zmq.IDENTITY, operator.public.encode())
        viewer.apply(socket)
        socket.connect(server.control_address)
        socket.send(json.dumps({"cmd": "stop", "User-Id": operator.public}).encode())
        socket.send(b'{"cmd": "stop"}')
        for _ in range(2):
            assert socket.poll(10_000)
            assert not json.loads(socket.recv())["ok"]
    assert obeyed == []


@pytest.mark.parametrize("who", STRANGERS, ids=str)
def test_a_stranger_gets_nothing_from_any_socket(
    server, keyring, obeyed, snapshot, who
):
    keys = None if who is None else keyring.of(*who)
    server.show(make_preview(snapshot()))
    with (
        ControlClient(server.control_address, 0.7, keys) as client,
        pytest.raises(StoppedError, match="are the keys right"),
    ):
        client.ask("stop")
    addresses = server.control_address, server.status_address, server.preview_address
    with zmq.Context() as context:
        for address in addresses:
            with subscribed(context, address, keys) as socket:
                socket.setsockopt(zmq.LINGER, 0)
                assert not socket.poll(300)
    assert obeyed == []
    assert (server.stats().turned_away > 0) == (who == STRANGERS[0])
    # All others are served on.
    with ControlClient(server.control_address, 10, keyring.of("operator")) as client:
        assert client.ask("ping")["ok"]


def test_what_goes_over_the_wire_can_not_be_read(keyring):
    """A relay in between sees every byte; the same state unencrypted shows the word."""
    word = "a-very-secret-sample"

    def overheard(curve, keys) -> bytes:
        status = {"run": word, "scan": word, "state": "idle"}
        with (
            ControlServer({}, lambda: status, heartbeat_s=0.05, curve=curve) as server,
            Relay(server.status_address) as relay,
            zmq.Context() as context,
            subscribed(context, relay.address, keys) as socket,
        ):
            assert socket.poll(10_000)
            assert json.loads(socket.recv())["run"] == word
        return bytes(relay.heard)

    assert word.encode() in overheard(None, None)
    assert word.encode() not in overheard(keyring.admission(), keyring.of("viewer"))


def test_a_door_that_died_is_not_well(server):
    """What ``alive`` says is what ``/healthz`` says of control."""
    assert server.alive()
    zap = server._door._zap
    zap.pipe.send(b"TERMINATE")
    zap.thread.join(10)
    assert not server.alive()


class Relay:
    """Passes one connection on, and keeps what it hears."""

    def __init__(self, address: str) -> None:
        host, _, port = address.removeprefix("tcp://").partition(":")
        self._to = host, int(port)
        self.heard = bytearray()

    def __enter__(self):
        self._listening = socket_module.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self._listening.getsockname()[1]}"
        self._thread = threading.Thread(target=self._pass_on)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(20)
        self._listening.close()

    def _pass_on(self) -> None:
        near, _ = self._listening.accept()
        with near, socket_module.create_connection(self._to) as far:
            ends = {near: far, far: near}
            while True:
                for end in select.select(list(ends), [], [], 20)[0]:
                    data = end.recv(1 << 16)
                    if not data:
                        return
                    self.heard += data
                    ends[end].sendall(data)


@pytest.mark.system
def test_documents_through_a_real_proxy_that_encrypts(keyring, info):
    inward, outward = free_addresses(2)
    proxy = (
        "-c",
        "from bluesky.commandline.zmq_proxy import main; main()",
        *("--in-address", inward, "--out-address", outward),
        *("--in-curve-secret", str(keyring.secret("service"))),
        *("--in-curve-client-keys", str(keyring.folder / "readers")),
    )
    with (
        process(*proxy),
        zmq.Context() as context,
        subscribed(context, f"tcp://{outward}", None) as bus,
    ):
        for name, settle_s in (("viewer", 30.0), ("stranger", 1.0)):
            sink = DocumentSink(inward, settle_s=settle_s, curve=keyring.of(name))
            with SinkThread(sink) as thread:
                deadline_s = time.monotonic() + 30
                while not bus.poll(300) and name == "viewer":
                    assert time.monotonic() < deadline_s
                    thread.start(info())  # the bus may have missed the first
                if name == "stranger":
                    thread.start(info())
                    assert not bus.poll(1500)
                while bus.poll(200):
                    assert received(bus)[1] == "start"
