import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import pytest
import zmq

from ptystream.errors import StoppedError
from ptystream.ingest.endpoint import Endpoint, parse_endpoint
from ptystream.ingest.positions import PositionReader
from ptystream.ingest.process import ReceiverProcess, ReceiverStats
from ptystream.ingest.scans import Event, ScanClosed, ScanOpened, ScanTracker
from ptystream.ingest.sender import Sender
from ptystream.wire import native
from ptystream.wire.messages import (
    Exposure,
    Frame,
    Geometry,
    Message,
    Samples,
    ScanEnd,
    ScanStart,
)

pytestmark = pytest.mark.system
MB = 1 << 20
GEOMETRY = Geometry(1e-10, 2.0, (75e-6, 75e-6), {"wavelength_m": "stream"})


def endpoint(sender: Sender, pattern: str = "sub") -> Endpoint:
    return parse_endpoint(sender.address.replace("tcp://", f"ptys+{pattern}://"))


def collect(
    receiver: ReceiverProcess, enough: Callable[[list[Message]], bool]
) -> list[Message]:
    """Drain as a service would: poll only when the ring was found empty."""
    got: list[Message] = []
    deadline = time.monotonic() + 20
    while not enough(got):
        assert time.monotonic() < deadline, f"only {len(got)} messages"
        assert receiver.alive
        if not (new := receiver.drain()):
            select.select([receiver], [], [], 1.0)
        got += new
    return got


def eventually(happens: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 10
    while not (done := happens()) and time.monotonic() < deadline:
        select.select([], [], [], 0.01)
    return done


def ended(messages: list[Message]) -> bool:
    return bool(messages) and isinstance(messages[-1], ScanEnd)


def pattern(index: int, dtype: str) -> np.ndarray:
    return np.random.default_rng(index).poisson(0.7, (65, 63)).astype(dtype)


@pytest.mark.parametrize(
    ("encoding", "dtype", "socket"),
    [("raw", "<u2", "sub"), ("lz4", "|u1", "pull"), ("bslz4", "<u4", "sub")],
)
def test_a_scan_from_the_senders_to_its_exposures(encoding, dtype, socket):
    n, per_frame = 30, 4
    rows = np.random.default_rng(0).normal(size=(n * per_frame, 2))
    tracker = ScanTracker()
    events: list[Event] = []
    with (
        Sender(pattern="pub" if socket == "sub" else "push") as detector,
        Sender() as encoder,
        ReceiverProcess(
            endpoint(detector, socket), ring_bytes=4 * MB, max_frame_bytes=MB
        ) as receiver,
        PositionReader(endpoint(encoder)) as positions,
    ):
        assert detector.wait_for_subscribers(10)
        assert encoder.wait_for_subscribers(10)
        start = ScanStart("s", "det", (65, 63), dtype, n, GEOMETRY, meta={"a": [1]})
        detector.send(start)
        encoder.send(ScanStart("s", "pos"))
        for index in range(n):
            detector.send(Frame("s", index, pattern(index, dtype), 5, 9), encoding)
        for first in range(0, n * per_frame, 10):
            batch = rows[first : first + 10]
            encoder.send(Samples("s", first, per_frame, batch))
        detector.send(ScanEnd("s", "det", "complete"))
        encoder.send(ScanEnd("s", "pos", "complete"))
        poller = zmq.Poller()
        poller.register(receiver, zmq.POLLIN)
        poller.register(positions.pollable, zmq.POLLIN)
        deadline = time.monotonic() + 20
        while not (events and isinstance(events[-1], ScanClosed)):
            now = time.monotonic()
            assert now < deadline
            for message in receiver.drain() + positions.poll(now):
                events += tracker.feed(message, now)
            events += tracker.tick(now)
            poller.poll(100)
        assert receiver.stats().frames == receiver.stats().messages - 2 == n
        assert receiver.stats().lost_on_wire == 0
        assert eventually(lambda: receiver.stats().connected)
        assert positions.stats().samples == n * per_frame
        assert positions.stats().connected
    assert isinstance(events[0], ScanOpened)
    assert events[0].start == start
    exposures = [e for e in events if isinstance(e, Exposure)]
    assert sorted(e.frame.index for e in exposures) == list(range(n))
    for e in exposures:
        i = e.frame.index
        np.testing.assert_array_equal(e.frame.counts, pattern(i, dtype))
        assert e.frame.counts.dtype == dtype
        assert (e.frame.start_ns, e.frame.stop_ns) == (5, 9)
        assert 0 < e.frame.arrived_s <= time.monotonic()
        own = rows[i * per_frame : (i + 1) * per_frame]
        np.testing.assert_allclose(e.mean_m, own.mean(axis=0))
        assert e.end_m == tuple(own[-1])


def test_a_crop_is_cut_in_the_receiver():
    with (
        Sender() as sender,
        ReceiverProcess(endpoint(sender), crop=(10, 20, 32, 16)) as receiver,
    ):
        assert sender.wait_for_subscribers(10)
        sender.send(ScanStart("s", "det", (65, 63)))
        sender.send(Frame("s", 0, pattern(0, "<u2")), "bslz4")
        sender.send(Frame("s", 1, np.zeros((40, 40), "<u2")))
        sender.send(ScanEnd("s", "det", "complete"))
        start, frame, _ = collect(receiver, ended)
        assert isinstance(start, ScanStart)
        assert start.shape == (32, 16)
        assert isinstance(frame, Frame)
        assert (frame.counts == pattern(0, "<u2")[10:42, 20:36]).all()
        assert receiver.stats().decode_errors == 1  # smaller than the crop


def test_a_full_ring_drops_frames_and_says_so_but_keeps_start_and_end():
    n = 200
    counts = np.zeros((256, 256), "<u2")
    with (
        Sender(hwm=2 * n) as sender,
        ReceiverProcess(
            endpoint(sender), ring_bytes=MB, max_frame_bytes=counts.nbytes
        ) as receiver,
    ):
        assert sender.wait_for_subscribers(10)
        sender.send(ScanStart("s", "det"))
        for index in range(n):
            assert sender.send(Frame("s", index, counts), "bslz4")
        sender.send(ScanEnd("s", "det", "complete"))
        sender.send(ScanStart("t", "det"))
        assert eventually(lambda: receiver.stats().messages == n + 3)
        assert eventually(lambda: _handled(receiver.stats()) == n)
        stats = receiver.stats()
        assert stats.ring_full == n - stats.frames > 0
        assert 0 < stats.ring_used_bytes <= stats.ring_bytes
        got = receiver.drain(most=2 * n)
        assert len(got) == stats.frames + 3
        assert [type(m) for m in (got[0], *got[-2:])] == [ScanStart, ScanEnd, ScanStart]
        assert got[-2] == ScanEnd("s", "det", "complete", n)


def test_bad_input_is_counted_and_survived():
    with zmq.Context() as context, context.socket(zmq.PUSH) as push:
        push.setsockopt(zmq.LINGER, 0)
        port = push.bind_to_random_port("tcp://127.0.0.1")
        with ReceiverProcess(Endpoint("ptys", "pull", f"tcp://127.0.0.1:{port}")) as r:
            frame = Frame("s", 0, pattern(0, "<u2"))
            good = [bytes(p) for p in native.encode(frame, seq=0, sent_ns=0)]
            corrupt = native.encode(frame, seq=1, sent_ns=0, encoding="bslz4")
            push.send_multipart([*corrupt[:2], bytes(len(corrupt[2]))])
            push.send_multipart([b"junk"])
            push.send_multipart([b"ptys1/det/zebra", good[1]])
            header = good[1].replace(b"\xa5frame", b"\xa5zebra")
            push.send_multipart([b"ptys1/det/zebra", header])
            push.send_multipart(good)
            (got,) = collect(r, bool)
            assert isinstance(got, Frame)
            assert (got.counts == frame.counts).all()
            stats = r.stats()
            assert (stats.decode_errors, stats.unknown_kinds) == (3, 1)
            assert r.alive


def test_wire_losses_are_counted():
    with zmq.Context() as context, context.socket(zmq.PUSH) as push:
        port = push.bind_to_random_port("tcp://127.0.0.1")
        with ReceiverProcess(Endpoint("ptys", "pull", f"tcp://127.0.0.1:{port}")) as r:
            for seq in [0, 1, 5]:
                frame = Frame("s", seq, pattern(0, "<u2"))
                parts = native.encode(frame, seq=seq, sent_ns=0)
                push.send_multipart([bytes(p) for p in parts])
            collect(r, lambda got: len(got) == 3)
            assert r.stats().lost_on_wire == 3


def test_a_dead_receiver_is_noticed_at_once():
    with Sender() as sender, ReceiverProcess(endpoint(sender)) as receiver:
        os.kill(receiver.pid, signal.SIGKILL)
        assert select.select([receiver], [], [], 5.0)[0]
        assert eventually(lambda: not receiver.alive)
        assert select.select([receiver], [], [], 0)[0]
        assert receiver.drain() == []
        assert receiver.stats().messages == 0


def test_sigterm_ends_it_and_ctrl_c_does_not():
    with Sender() as sender, ReceiverProcess(endpoint(sender)) as receiver:
        os.kill(receiver.pid, signal.SIGINT)
        assert sender.wait_for_subscribers(10)
        sender.send(ScanStart("s", "det"))
        collect(receiver, bool)
        os.kill(receiver.pid, signal.SIGTERM)
        assert eventually(lambda: not receiver.alive)


PARENT = """
import sys
from ptystream.ingest.endpoint import parse_endpoint
from ptystream.ingest.process import ReceiverProcess
with ReceiverProcess(parse_endpoint(sys.argv[1])) as receiver:
    print(receiver.pid, flush=True)
    sys.stdin.read()
"""


def test_it_does_not_outlive_a_killed_parent():
    with Sender() as sender:
        command = [sys.executable, "-c", PARENT, str(endpoint(sender))]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as parent:
            assert parent.stdout is not None
            child = int(parent.stdout.readline())
            assert sender.wait_for_subscribers(10)
            parent.kill()
        assert eventually(lambda: not _runs(child))


def _handled(stats: ReceiverStats) -> int:
    return stats.frames + stats.ring_full


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, check=False
    ).stdout
    return bool(status.strip()) and not status.startswith(b"Z")


def test_an_address_that_cannot_be_is_told_at_once():
    bad = Endpoint("ptys", "sub", "tcp://127.0.0.1:99999")
    with pytest.raises(StoppedError, match="exit code 2"), ReceiverProcess(bad):
        pass


def test_settings_are_closed():
    with subprocess.Popen(
        [sys.executable, "-m", "ptystream.ingest.receiver"],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as child:
        _, error = child.communicate(json.dumps({"zebra": 1}).encode() + b"\n", 20)
    assert child.returncode == 2
    assert b"endpoint" in error or b"zebra" in error


def test_a_ring_without_room_for_two_frames_is_refused():
    with pytest.raises(ValueError, match="two frames"):
        ReceiverProcess(
            parse_endpoint("ptys+sub://127.0.0.1:1"),
            ring_bytes=MB,
            max_frame_bytes=MB,
        )


def test_it_starts_without_torch():
    code = "import sys, ptystream.ingest.receiver; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
