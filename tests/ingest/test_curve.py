"""CURVE against a real server socket that knows its clients' keys."""

import contextlib
import logging
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import zmq
from zmq.auth.thread import ThreadAuthenticator

from ptystream.errors import ConfigError
from ptystream.ingest.endpoint import Endpoint, parse_endpoint
from ptystream.ingest.positions import PositionReader
from ptystream.ingest.process import ReceiverProcess
from ptystream.ingest.sender import Sender
from ptystream.ingest.subscription import Subscription
from ptystream.wire import native
from ptystream.wire.curve import server_keys
from ptystream.wire.envelope import Limits
from ptystream.wire.messages import Heartbeat, Samples, ScanStart
from tests.keyring import Keyring

BEAT = native.encode(Heartbeat("a", "det"), seq=0, sent_ns=0)


@contextlib.contextmanager
def detector(keyring: Keyring) -> Iterator[tuple[zmq.Socket[bytes], Endpoint]]:
    """A PUSH socket that lets only ``viewer`` in, by ZeroMQ's own means."""
    with zmq.Context() as context:
        guard = ThreadAuthenticator(context)
        guard.start()
        try:
            guard.configure_curve(location=str(keyring.folder / "readers"))
            with context.socket(zmq.PUSH) as push:
                push.setsockopt(zmq.LINGER, 0)
                server_keys(keyring.secret("service")).apply(push)
                port = push.bind_to_random_port("tcp://127.0.0.1")
                yield push, Endpoint("ptys", "pull", f"tcp://127.0.0.1:{port}")
        finally:
            guard.stop()


def test_the_right_keys_get_messages(keyring):
    with (
        detector(keyring) as (push, endpoint),
        Subscription(
            endpoint, streams=["det"], limits=Limits(), curve=keyring.of("viewer")
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
    "who", [("stranger", "service"), ("viewer", "stranger"), None], ids=str
)
def test_wrong_keys_get_nothing_and_it_is_told(keyring, who, caplog):
    curve = None if who is None else keyring.of(*who)
    with (
        detector(keyring) as (push, endpoint),
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
            endpoint, streams=["det"], limits=Limits(), curve=keyring.of("viewer")
        ) as right:
            assert push.poll(5000, zmq.POLLOUT)
            push.send_multipart(BEAT)
            assert right.socket.poll(5000)
    assert "CURVE" in caplog.text
    assert keyring.of("viewer").secret not in caplog.text


@pytest.mark.system
def test_a_receiver_process_is_told_its_keys_without_a_trace(keyring):
    with (
        Sender(curve=keyring.admission()) as sender,
        ReceiverProcess(
            parse_endpoint(sender.address.replace("tcp", "ptys+sub")),
            curve=keyring.of("viewer"),
        ) as receiver,
        ReceiverProcess(
            parse_endpoint(sender.address.replace("tcp", "ptys+sub")),
            curve=keyring.of("viewer", server="stranger"),
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
                assert keyring.of("viewer").secret.encode() not in told.read_bytes()


@pytest.mark.parametrize("pattern", ["pub", "push"])
def test_a_sender_lets_in_who_is_listed_and_nobody_else(keyring, pattern):
    with Sender(curve=keyring.admission(), pattern=pattern) as sender:
        kind = "sub" if pattern == "pub" else "pull"
        url = sender.address.replace("tcp", f"ptys+{kind}")
        for curve in (keyring.of("stranger"), None):
            with PositionReader(parse_endpoint(url), curve=curve) as reader:
                assert not sender.wait_for_subscribers(0.5)
                assert not reader.stats().connected
        with PositionReader(parse_endpoint(url), curve=keyring.of("viewer")) as reader:
            assert sender.wait_for_subscribers(10)
            sender.send(ScanStart("s", "pos"))
            sender.send(Samples("s", 0, 1, np.zeros((1, 2))))
            deadline = time.monotonic() + 10
            got = []
            while len(got) < 2 and time.monotonic() < deadline:
                got += reader.poll(time.monotonic())
        assert [type(message) for message in got] == [ScanStart, Samples]


def test_a_pandabox_has_no_encryption_so_keys_for_it_are_refused(keyring):
    with pytest.raises(ConfigError, match="can't be encrypted"):
        PositionReader(parse_endpoint("panda://box"), curve=keyring.of("viewer"))
