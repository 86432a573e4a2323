import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import zmq

from ptystream.errors import ConfigError
from ptystream.ingest.sender import Sender
from ptystream.wire import native
from ptystream.wire.envelope import EncodedFrame, Envelope, encode_frame
from ptystream.wire.messages import Frame, Heartbeat, Samples, ScanEnd, ScanStart

START = ScanStart("a", "det")
COUNTS = np.arange(6, dtype="<u2").reshape(2, 3)


@contextmanager
def listener(
    address: str, kind: int = zmq.SUB, **options: int
) -> Iterator[zmq.Socket[bytes]]:
    with zmq.Context() as context, context.socket(kind) as socket:
        socket.setsockopt(zmq.RCVTIMEO, 5000)
        for name, value in options.items():
            socket.setsockopt(getattr(zmq, name), value)
        if kind == zmq.SUB:
            socket.subscribe(b"ptys1/")
        socket.connect(address)
        yield socket


def take(socket: zmq.Socket[bytes]) -> Envelope:
    return native.decode(socket.recv_multipart())


def summary(envelope: Envelope) -> tuple[str, int | None]:
    return type(envelope.message).__name__, envelope.seq


def test_messages_are_numbered_by_stream_and_scan():
    rows = np.zeros((4, 2))
    with Sender() as sender, listener(sender.address) as socket:
        assert sender.wait_for_subscribers(5)
        for message in [
            START,
            ScanStart("a", "pos"),
            Frame("a", 0, COUNTS),
            Samples("a", 0, 2, rows),
            ScanEnd("a", "det", "complete"),
            ScanEnd("a", "pos", "complete"),
            ScanStart("b", "det"),
        ]:
            assert sender.send(message)
        got = [take(socket) for _ in range(7)]
        assert [e.seq for e in got] == [0, 0, 1, 1, 2, 2, 0]
        assert [e.run for e in got] == list("aaaaaab")
        ends = [e.message for e in got[4:6]]
        assert ends == [
            ScanEnd("a", "det", "complete", 1),
            ScanEnd("a", "pos", "complete", 4),
        ]
        assert sender.stats.sent == 7


@pytest.mark.parametrize("pattern", ["pub", "push"])
@pytest.mark.parametrize("encoding", ["raw", "lz4", "bslz4"])
def test_arrays_may_be_used_again_at_once(pattern, encoding):
    big = np.zeros((400, 400), "<u2")
    kind = zmq.SUB if pattern == "pub" else zmq.PULL
    with Sender(pattern=pattern) as sender, listener(sender.address, kind) as socket:
        assert sender.wait_for_subscribers(5)
        for index in range(5):
            big[:] = index
            assert sender.send(Frame("a", index, big), encoding)
        big[:] = 99
        for index in range(5):
            frame = take(socket).message
            assert isinstance(frame, EncodedFrame)
            assert (frame.decode().counts == index).all()


def test_frames_encoded_ahead_are_sent_as_they_are():
    with Sender() as sender, listener(sender.address) as socket:
        assert sender.wait_for_subscribers(5)
        assert sender.send(encode_frame(Frame("a", 7, COUNTS), "bslz4"))
        frame = take(socket).message
        assert isinstance(frame, EncodedFrame)
        np.testing.assert_array_equal(frame.decode().counts, COUNTS)


def test_who_joins_late_is_told_the_start_at_once():
    with Sender(restart_s=1000) as sender, listener(sender.address) as first:
        assert sender.wait_for_subscribers(5)
        sender.send(START)
        assert take(first).message == START
        with listener(sender.address) as second:
            assert sender.wait_for_subscribers(5, count=2)
            again = take(second)
            assert again.message == ScanStart("a", "det", again=True)
            assert again.seq == 1


def test_idling_repeats_the_start_and_beats():
    with (
        Sender(heartbeat_s=0.01, restart_s=0.05) as sender,
        listener(sender.address) as socket,
    ):
        assert sender.wait_for_subscribers(5)
        sender.send(START)
        seen: list[Any] = []
        deadline = time.monotonic() + 5
        while len({type(m) for m in seen}) < 2 and time.monotonic() < deadline:
            sender.idle()
            while socket.poll(1):
                seen.append(take(socket).message)
            seen = [m for m in seen if m != START]
        assert Heartbeat("a", "det") in seen
        assert ScanStart("a", "det", again=True) in seen


def test_after_the_end_nothing_is_repeated():
    with (
        Sender(heartbeat_s=0, restart_s=0) as sender,
        listener(sender.address) as socket,
    ):
        assert sender.wait_for_subscribers(5)
        sender.send(START)
        sender.send(ScanEnd("a", "det", "complete"))
        while not isinstance(take(socket).message, ScanEnd):
            pass
        sender.idle()
        assert take(socket).message == Heartbeat("", "det")


def test_a_full_queue_drops_counts_and_keeps_numbering():
    frame = Frame("a", 0, np.zeros((500, 500), "<u2"))
    options = {"RCVHWM": 1, "RCVBUF": 4096}
    with (
        Sender(hwm=5, urgent_wait_s=0.05, linger_s=0) as sender,
        listener(sender.address, **options) as socket,
    ):
        assert sender.wait_for_subscribers(5)
        outcomes = [sender.send(frame) for _ in range(60)]
        assert outcomes.count(False) == sender.stats.dropped > 0
        kept = outcomes.count(True)
        got = [take(socket) for _ in range(kept)]
        deadline = time.monotonic() + 5
        while not sender.send(frame) and time.monotonic() < deadline:
            pass
        last = take(socket)
        assert last.seq is not None
        assert last.seq >= 60
        assert [e.seq for e in got] == [i for i, ok in enumerate(outcomes) if ok]


def test_the_end_is_tried_longer_than_a_frame():
    with Sender(pattern="push", urgent_wait_s=30) as sender:
        assert not sender.send(Frame("a", 0, COUNTS))
        with listener(sender.address, zmq.PULL) as socket:
            assert sender.send(ScanEnd("a", "det", "complete"))
            assert take(socket).message == ScanEnd("a", "det", "complete", 1)


def test_nobody_there():
    with Sender() as sender:
        assert not sender.wait_for_subscribers(0.01)
    with Sender(pattern="push", urgent_wait_s=0) as sender:
        assert not sender.wait_for_subscribers(0.01)
        assert not sender.send(START)
        assert sender.stats.dropped == 1


def test_who_leaves_is_not_counted_any_more():
    with Sender() as sender:
        with listener(sender.address):
            assert sender.wait_for_subscribers(5)
        deadline = time.monotonic() + 5
        while sender.wait_for_subscribers(0.001) and time.monotonic() < deadline:
            sender.idle()
        assert not sender.wait_for_subscribers(0.001)


def test_settings_that_cannot_be():
    with pytest.raises(ConfigError, match="pattern"):
        Sender(pattern="sub")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigError, match="bind"), Sender("tcp://nowhere"):
        pass
