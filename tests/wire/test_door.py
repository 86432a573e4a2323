"""The door of a CURVE server: it fails shut."""

import logging
from collections.abc import Iterator

import pytest
import zmq

from ptystream.wire.door import Door, sender_of


@pytest.fixture
def pull() -> Iterator[zmq.Socket]:
    with zmq.Context() as context, context.socket(zmq.PULL) as socket:
        yield socket


def bound(door: Door, pull: zmq.Socket) -> str:
    """Bind a socket behind the door; return where."""
    door.guard(pull)
    return f"tcp://127.0.0.1:{pull.bind_to_random_port('tcp://127.0.0.1')}"


def comes_in(address: str, keys, pull: zmq.Socket, wait_ms: int) -> zmq.Frame | None:
    """Return what a client with these keys got through the door, if it did."""
    with zmq.Context() as context, context.socket(zmq.PUSH) as push:
        push.setsockopt(zmq.LINGER, 0)
        if keys is not None:
            keys.apply(push)
        push.connect(address)
        push.send(b"hello")
        return pull.recv(copy=False) if pull.poll(wait_ms) else None


def test_it_tells_who_came_in(pull, keyring, caplog):
    door = Door(keyring.admission())
    door.open(pull.context)
    address = bound(door, pull)
    with caplog.at_level(logging.DEBUG):
        for name in ("viewer", "operator"):
            keys = keyring.of(name)
            frame = comes_in(address, keys, pull, 10_000)
            assert frame is not None
            assert sender_of(frame) == keys.public
        assert door.refused == 0
        stranger = keyring.of("stranger")
        assert comes_in(address, stranger, pull, 500) is None
        assert door.refused >= 1
        assert comes_in(address, None, pull, 300) is None
        assert comes_in(address, keyring.of("viewer", "stranger"), pull, 300) is None
    door.close()
    assert f"{stranger.public} is not listed" in caplog.text
    assert stranger.secret not in caplog.text
    assert keyring.admission().keys.secret not in caplog.text


def test_a_door_that_is_closed_or_was_never_opened_lets_nobody_in(pull, keyring):
    viewer = keyring.of("viewer")
    door = Door(keyring.admission())
    address = bound(door, pull)
    assert comes_in(address, viewer, pull, 500) is None
    door.open(pull.context)
    assert comes_in(address, viewer, pull, 10_000) is not None
    door.close()
    assert comes_in(address, viewer, pull, 500) is None


def test_a_door_whose_thread_died_lets_nobody_in_and_closes(pull, keyring):
    door = Door(keyring.admission())
    door.open(pull.context)
    address = bound(door, pull)
    assert door.alive()
    assert door._zap is not None
    door._zap.pipe.send(b"TERMINATE")
    door._zap.thread.join(10)
    assert not door.alive()
    assert comes_in(address, keyring.of("viewer"), pull, 500) is None
    door.close()
    assert comes_in(address, keyring.of("viewer"), pull, 500) is None


def test_without_keys_it_stands_open_and_knows_nobody(pull):
    door = Door(None)
    assert door.alive()
    door.open(pull.context)
    address = bound(door, pull)
    frame = comes_in(address, None, pull, 10_000)
    assert frame is not None
    assert sender_of(frame) == ""
    door.close()
