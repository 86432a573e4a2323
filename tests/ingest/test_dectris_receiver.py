"""A DECTRIS detector's streams through a real socket and the receiver process."""

import select
import time
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import zmq

from ptystream.ingest.endpoint import Endpoint
from ptystream.ingest.process import ReceiverProcess
from ptystream.wire.dectris2_encode import Dectris2Encoder
from ptystream.wire.dectris_encode import DectrisEncoder
from ptystream.wire.messages import Calibration, Frame, Message, ScanEnd, ScanStart
from tests.wire.dectris_streams import counts

pytestmark = pytest.mark.system
MB = 1 << 20
SHAPE = (64, 48)
MASK = Calibration("s", "pixel_mask", np.zeros(SHAPE, "<u4"))


def scan(n: int, name: str = "s") -> list[Message]:
    frames = [Frame(name, i, counts(i, SHAPE), 10, 20) for i in range(n)]
    start = ScanStart(name, "det", SHAPE, "<u2", n)
    return [start, *frames, ScanEnd(name, "det", "complete")]


def eventually(happens: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 20
    while not (done := happens()) and time.monotonic() < deadline:
        select.select([], [], [], 0.01)
    return done


def drained(receiver: ReceiverProcess) -> list[Message]:
    """Return all messages up to the end of the scan."""
    got: list[Message] = []
    deadline = time.monotonic() + 20
    while not any(isinstance(m, ScanEnd) for m in got):
        assert time.monotonic() < deadline, got
        if not (new := receiver.drain()):
            select.select([receiver], [], [], 1.0)
        got += new
    return got


def check(got: Sequence[Message], n: int) -> None:
    start, *frames, end = got
    assert isinstance(start, ScanStart)
    assert isinstance(end, ScanEnd)
    assert (start.scan, start.shape, end.scan) == ("s", SHAPE, "s")
    assert [f.index for f in frames if isinstance(f, Frame)] == list(range(n))
    for frame in frames:
        assert isinstance(frame, Frame)
        np.testing.assert_array_equal(frame.counts, counts(frame.index, SHAPE))


@pytest.mark.parametrize("encoding", ["raw", "lz4", "bslz4"])
@pytest.mark.parametrize("socket", ["push", "pub", "flattened"])
def test_version_1_by_every_socket(socket, encoding):
    n = 40
    kind = zmq.PUB if socket == "pub" else zmq.PUSH
    with zmq.Context() as context, context.socket(kind) as sender:
        sender.setsockopt(zmq.LINGER, 0)
        port = sender.bind_to_random_port("tcp://127.0.0.1")
        pattern = "sub" if socket == "pub" else "pull"
        endpoint = Endpoint("dectris", pattern, f"tcp://127.0.0.1:{port}")
        encoder = DectrisEncoder(detail="all", calibrations=[MASK])
        with ReceiverProcess(endpoint, max_frame_bytes=MB) as receiver:
            assert eventually(lambda: receiver.stats().connected)
            for message in scan(n):
                parts = encoder.encode(message, encoding)  # pyright: ignore
                if socket == "flattened":
                    for part in parts:
                        sender.send(part)
                else:
                    sender.send_multipart(parts)
            check(drained(receiver), n)
            assert receiver.stats().decode_errors == 0
            assert receiver.stats().lost_on_wire == 0


@pytest.mark.parametrize("encoding", ["raw", "bslz4"])
def test_version_2(encoding):
    n = 40
    with zmq.Context() as context, context.socket(zmq.PUSH) as sender:
        sender.setsockopt(zmq.LINGER, 0)
        port = sender.bind_to_random_port("tcp://127.0.0.1")
        endpoint = Endpoint("dectris2", "pull", f"tcp://127.0.0.1:{port}")
        encoder = Dectris2Encoder(calibrations=[MASK])
        with ReceiverProcess(endpoint, max_frame_bytes=MB) as receiver:
            for message in scan(n):
                parts = encoder.encode(message, encoding)  # pyright: ignore
                sender.send_multipart(parts)
            check(drained(receiver), n)
            assert receiver.stats().decode_errors == 0


def test_lost_frames_are_counted_by_their_numbers():
    with zmq.Context() as context, context.socket(zmq.PUSH) as sender:
        port = sender.bind_to_random_port("tcp://127.0.0.1")
        endpoint = Endpoint("dectris", "pull", f"tcp://127.0.0.1:{port}")
        encoder = DectrisEncoder()
        with ReceiverProcess(endpoint, max_frame_bytes=MB) as receiver:
            for message in scan(10):
                if getattr(message, "index", 0) not in (4, 5, 8):
                    sender.send_multipart(encoder.encode(message))  # pyright: ignore
            got = drained(receiver)
            assert len(got) == 2 + 7
            assert receiver.stats().lost_on_wire == 3


def test_two_who_pull_share_the_frames_and_each_counts_what_it_lacks():
    n = 30
    with zmq.Context() as context, context.socket(zmq.PUSH) as sender:
        port = sender.bind_to_random_port("tcp://127.0.0.1")
        endpoint = Endpoint("dectris", "pull", f"tcp://127.0.0.1:{port}")
        encoder = DectrisEncoder()
        with (
            ReceiverProcess(endpoint, max_frame_bytes=MB) as one,
            ReceiverProcess(endpoint, max_frame_bytes=MB) as other,
        ):
            assert eventually(lambda: one.stats().connected)
            assert eventually(lambda: other.stats().connected)
            for message in scan(n):
                sender.send_multipart(encoder.encode(message, "bslz4"))  # pyright: ignore
            assert eventually(lambda: one.stats().frames + other.stats().frames == n)
            frames = {
                m.index: m.counts
                for m in one.drain() + other.drain()
                if isinstance(m, Frame)
            }
            assert sorted(frames) == list(range(n))
            for index, got in frames.items():
                np.testing.assert_array_equal(got, counts(index, SHAPE))
            assert 0 < one.stats().frames < n


def test_a_mask_larger_than_any_frame_gets_through():
    """A header's mask has four bytes a pixel, its frames may have one."""
    shape = (512, 512)
    mask = Calibration("s", "pixel_mask", np.zeros(shape, "<u4"))
    with zmq.Context() as context, context.socket(zmq.PUSH) as sender:
        port = sender.bind_to_random_port("tcp://127.0.0.1")
        endpoint = Endpoint("dectris", "pull", f"tcp://127.0.0.1:{port}")
        encoder = DectrisEncoder(detail="all", calibrations=[mask, mask])
        with ReceiverProcess(endpoint, max_frame_bytes=512 * 512) as receiver:
            for message in (
                ScanStart("s", "det", shape, "|u1", 1),
                Frame("s", 0, np.ones(shape, "|u1")),
                ScanEnd("s", "det", "complete"),
            ):
                sender.send_multipart(encoder.encode(message))
            assert len(drained(receiver)) == 3
            assert receiver.stats().disconnects == 0
