import time
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
import zmq

from ptystream.errors import ConfigError
from ptystream.ingest.endpoint import Endpoint
from ptystream.ingest.sender import Sender
from ptystream.ingest.subscription import SequenceCounter, Subscription
from ptystream.wire import native
from ptystream.wire.envelope import Envelope, Limits
from ptystream.wire.messages import Frame, Heartbeat, ScanEnd

HEARTBEAT = native.encode(Heartbeat("a", "det"), seq=0, sent_ns=0)[1]


def numbered(seq: int | None, run: str = "a", stream: str = "det") -> Envelope:
    return Envelope(Heartbeat(run, "det"), stream, run, seq, 0)


def gaps(*envelopes: Envelope) -> list[int]:
    counter = SequenceCounter(streams=3)
    return [counter.gap(e) for e in envelopes]


def test_a_gap_is_counted_where_it_is():
    assert gaps(*map(numbered, [0, 1, 4, 5, 7])) == [0, 0, 2, 0, 1]


def test_joining_late_is_no_loss_but_a_later_run_begins_at_zero():
    assert gaps(numbered(100), numbered(2, "b"), numbered(101)) == [0, 2, 0]


def test_streams_are_counted_apart():
    assert gaps(numbered(5), numbered(9, stream="pos"), numbered(6)) == [0, 0, 0]


def test_a_sender_that_begins_again_is_no_loss():
    assert gaps(*map(numbered, [7, 0, 1, 2, 3])) == [0, 0, 0, 0, 0]


def test_a_wire_without_numbers_has_no_gaps():
    assert gaps(numbered(None), numbered(None)) == [0, 0]


def test_the_memory_is_bounded():
    counter = SequenceCounter(streams=3)
    for run in range(100):
        counter.gap(numbered(0, str(run)))
    assert counter.gap(numbered(5, "99")) == 4
    assert counter.gap(numbered(5, "0")) == 5


def received(subscription: Subscription, most: int) -> list[Any]:
    if not subscription.socket.poll(5000):
        pytest.fail("nothing came")
    return list(subscription.messages(most))


def test_garbage_is_counted_and_skipped():
    with zmq.Context() as context, context.socket(zmq.PUSH) as push:
        port = push.bind_to_random_port("tcp://127.0.0.1")
        endpoint = Endpoint("ptys", "pull", f"tcp://127.0.0.1:{port}")
        with Subscription(endpoint, streams=["det"], limits=Limits()) as subscription:
            for parts in [[b""], [b"x"] * 40, [b"ptys1/det/frame", b"\xc1"]]:
                push.send_multipart(parts)
            while subscription.decode_errors < 3:
                assert received(subscription, 10) == []
            assert subscription.connected


def test_a_message_larger_than_any_frame_never_enters():
    with zmq.Context() as context, context.socket(zmq.PUSH) as push:
        push.setsockopt(zmq.LINGER, 0)
        port = push.bind_to_random_port("tcp://127.0.0.1")
        endpoint = Endpoint("ptys", "pull", f"tcp://127.0.0.1:{port}")
        limits = Limits(max_frame_bytes=1000)
        with Subscription(endpoint, streams=["det"], limits=limits) as subscription:
            push.send(bytes(200_000))
            deadline = time.monotonic() + 10
            while not subscription.decode_errors and time.monotonic() < deadline:
                # What was queued behind it goes down with the connection.
                if push.poll(10, zmq.POLLOUT):
                    push.send(b"small")
                list(subscription.messages(10))
            assert subscription.decode_errors
            assert subscription.disconnects
            push.send_multipart([b"ptys1/det/hb", HEARTBEAT])
            while not (got := list(subscription.messages(10))):
                assert subscription.socket.poll(5000)
            assert got[0].message == Heartbeat("a", "det")


def test_an_address_that_cannot_be_is_a_config_error():
    endpoint = Endpoint("ptys", "sub", "tcp://no port")
    with (
        pytest.raises(ConfigError, match="no port"),
        Subscription(endpoint, streams=["det"], limits=Limits()),
    ):
        pass


def test_a_sender_that_comes_back_is_heard_once():
    with ExitStack() as stack:
        sender = stack.enter_context(Sender())
        address = sender.address
        subscription = Subscription(
            Endpoint("ptys", "sub", address), streams=["det"], limits=Limits()
        )
        with subscription:
            assert sender.wait_for_subscribers(5)
            stack.close()
            while not subscription.disconnects:
                list(subscription.messages(1))
            with Sender(address) as second:
                while not second.wait_for_subscribers(0.05):
                    list(subscription.messages(1))
                for index in range(5):
                    second.send(Frame("a", index, np.zeros((2, 2), "u1")))
                second.send(ScanEnd("a", "det", "complete"))
                got = []
                while not got or not isinstance(got[-1], ScanEnd):
                    got += [e.message for e in received(subscription, 10)]
            assert len(got) == 6


def test_the_last_words_of_a_sender_that_goes_are_heard():
    with ExitStack() as stack:
        sender = stack.enter_context(Sender())
        endpoint = Endpoint("ptys", "sub", sender.address)
        with Subscription(endpoint, streams=["det"], limits=Limits()) as subscription:
            assert sender.wait_for_subscribers(5)
            assert list(subscription.messages(10)) == []
            sender.send(ScanEnd("a", "det", "complete"))
            stack.close()
            while subscription._monitor.poll(1000):  # the queue was empty before this
                subscription._watch()
            assert subscription.disconnects
            (last,) = subscription.messages(10)
            assert last.message == ScanEnd("a", "det", "complete", 0)
