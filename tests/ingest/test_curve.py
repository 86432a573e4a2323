"""CURVE against a real server socket that knows its clients' keys."""

import base64
import contextlib
import logging
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import zmq
import zmq.auth
from zmq.auth.thread import ThreadAuthenticator
from zmq.utils import z85

from ptystream.errors import ConfigError
from ptystream.ingest.curve import (
    ClientKeys,
    client_keys,
    environment_keys,
    server_keys,
)
from ptystream.ingest.endpoint import Endpoint, parse_endpoint
from ptystream.ingest.process import ReceiverProcess
from ptystream.ingest.sender import Sender
from ptystream.ingest.subscription import Subscription
from ptystream.wire import native
from ptystream.wire.envelope import Limits
from ptystream.wire.messages import Heartbeat, ScanStart

BEAT = native.encode(Heartbeat("a", "det"), seq=0, sent_ns=0)


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """A folder of certificates: server, client, stranger."""
    for name in ("server", "client", "stranger"):
        _, secret = zmq.auth.create_certificates(tmp_path, name)
        Path(secret).chmod(0o600)
    return tmp_path


def of(folder: Path, client: str = "client", server: str = "server") -> ClientKeys:
    return client_keys(folder / f"{server}.key", folder / f"{client}.key_secret")


@contextlib.contextmanager
def detector(keys: Path) -> Iterator[tuple[zmq.Socket[bytes], Endpoint]]:
    """A PUSH socket that lets only ``client`` in."""
    allowed = keys / "allowed"
    allowed.mkdir()
    (allowed / "client.key").write_bytes((keys / "client.key").read_bytes())
    with zmq.Context() as context:
        guard = ThreadAuthenticator(context)
        guard.start()
        try:
            guard.configure_curve(location=str(allowed))
            with context.socket(zmq.PUSH) as push:
                push.setsockopt(zmq.LINGER, 0)
                server_keys(keys / "server.key_secret").apply(push)
                port = push.bind_to_random_port("tcp://127.0.0.1")
                yield push, Endpoint("ptys", "pull", f"tcp://127.0.0.1:{port}")
        finally:
            guard.stop()


def test_the_right_keys_get_messages(keys):
    with (
        detector(keys) as (push, endpoint),
        Subscription(
            endpoint, streams=["det"], limits=Limits(), curve=of(keys)
        ) as subscription,
    ):
        assert push.poll(5000, zmq.POLLOUT)
        push.send_multipart(BEAT)
        assert subscription.socket.poll(5000)
        (envelope,) = subscription.messages(1)
        assert envelope.message == Heartbeat("a", "det")
        list(subscription.messages(1))
        assert subscription.connected
        assert subscription.refused == 0


@pytest.mark.parametrize(
    "who", [{"client": "stranger"}, {"server": "stranger"}, None], ids=str
)
def test_wrong_keys_get_nothing_and_it_is_told(keys, who, caplog):
    curve = None if who is None else of(keys, **who)
    with (
        detector(keys) as (push, endpoint),
        Subscription(
            endpoint, streams=["det"], limits=Limits(), curve=curve
        ) as subscription,
        caplog.at_level(logging.WARNING),
    ):
        deadline = time.monotonic() + 20
        while subscription.refused < 2 and time.monotonic() < deadline:
            assert list(subscription.messages(10)) == []
            assert not push.poll(20, zmq.POLLOUT)
            assert not subscription.connected
        assert subscription.refused >= 2  # it goes on trying
        assert subscription.disconnects == 0
        # One who comes with the right keys is served all the same.
        with Subscription(
            endpoint, streams=["det"], limits=Limits(), curve=of(keys)
        ) as right:
            assert push.poll(5000, zmq.POLLOUT)
            push.send_multipart(BEAT)
            assert right.socket.poll(5000)
    assert "CURVE" in caplog.text
    assert of(keys).secret not in caplog.text


@pytest.mark.system
def test_a_receiver_process_is_told_its_keys_without_a_trace(keys):
    with (
        Sender(curve=server_keys(keys / "server.key_secret")) as sender,
        ReceiverProcess(
            parse_endpoint(sender.address.replace("tcp", "ptys+sub")), curve=of(keys)
        ) as receiver,
        ReceiverProcess(
            parse_endpoint(sender.address.replace("tcp", "ptys+sub")),
            curve=of(keys, server="stranger"),
        ) as other,
    ):
        assert sender.wait_for_subscribers(10)
        sender.send(ScanStart("s", "det"))
        deadline = time.monotonic() + 10
        while not (got := receiver.drain()) and time.monotonic() < deadline:
            time.sleep(0.01)
        while not receiver.stats().connected and time.monotonic() < deadline:
            time.sleep(0.01)
        assert got == [ScanStart("s", "det")]
        assert receiver.stats().connected
        assert not other.stats().connected
        assert other.drain() == []
        for place in ("cmdline", "environ"):
            told = Path(f"/proc/{receiver.pid}/{place}")
            if told.exists():
                assert of(keys).secret.encode() not in told.read_bytes()


def test_keys_are_never_shown(keys):
    client = of(keys)
    for text in (repr(client), str(client), f"{client}"):
        assert client.secret not in text
    again = msgspec.json.decode(msgspec.json.encode(client), type=ClientKeys)
    assert again == client


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o606])
def test_a_secret_that_others_may_read_is_refused(keys, mode):
    (keys / "client.key_secret").chmod(mode)
    with pytest.raises(ConfigError, match="chmod 600"):
        of(keys)


def test_files_that_are_no_keys_are_refused(keys):
    (keys / "server.key").write_text("rubbish")
    with pytest.raises(ConfigError, match=r"server\.key"):
        of(keys)
    with pytest.raises(ConfigError, match="No such file"):
        server_keys(keys / "nobody.key_secret")
    (keys / "stranger.key").chmod(0o600)
    with pytest.raises(ConfigError, match="expected a secret key"):
        server_keys(keys / "stranger.key")


def test_half_a_pair_is_refused(keys):
    path = keys / "client.key_secret"
    mine = of(keys)
    path.write_text(path.read_text().replace(mine.public, mine.server))
    with pytest.raises(ConfigError, match="another's") as error:
        client_keys(keys / "stranger.key", path)
    assert mine.secret not in str(error.value)


def variables(keys: ClientKeys) -> dict[str, str]:
    return {
        "SERVER_PUBLIC_KEY": keys.server,
        "CLIENT_PUBLIC_KEY": keys.public,
        "CLIENT_SECRET_KEY": keys.secret,
    }


def test_keys_of_the_environment_in_either_form(keys):
    mine = of(keys)
    assert environment_keys(variables(mine)) == mine
    in_base64 = {
        name: base64.b64encode(z85.decode(key)).decode()
        for name, key in variables(mine).items()
    }
    assert environment_keys(in_base64) == mine
    assert environment_keys({"HOME": "/"}) is None


@pytest.mark.parametrize("missing", ["SERVER_PUBLIC_KEY", "CLIENT_SECRET_KEY"])
def test_some_of_the_environments_keys_are_no_keys(keys, missing):
    """Pitfall 8: partial key sets look like a timeout unless they are refused."""
    given = variables(of(keys))
    given[missing] = " "
    with pytest.raises(ConfigError, match=missing):
        environment_keys(given)


@pytest.mark.parametrize("text", ["short", "x" * 40, "~" * 40, "=" * 44, "é" * 40])
def test_a_key_that_is_none_is_refused_without_being_shown(keys, text):
    given = {**variables(of(keys)), "CLIENT_SECRET_KEY": text}
    with pytest.raises(ConfigError, match="CLIENT_SECRET_KEY") as error:
        environment_keys(given)
    assert text not in str(error.value)
