"""libertem-dectris: a simulator and a receiver of DECTRIS' stream, both in Rust."""

import struct
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zmq

from ptystream.ingest.endpoint import parse_endpoint
from ptystream.ingest.process import ReceiverProcess
from ptystream.wire.dectris_encode import DectrisEncoder
from ptystream.wire.messages import Frame, ScanEnd, ScanStart
from tests.peers.receiving import parted, received

ld = pytest.importorskip("libertem_dectris")
pytestmark = pytest.mark.system
SHAPE = (128, 128)


def counts(index: int, shape=SHAPE) -> np.ndarray:
    return np.random.default_rng(index).poisson(0.8, shape).astype("<u2")


def scan(n: int) -> list[ScanStart | Frame | ScanEnd]:
    frames = [Frame("s", i, counts(i), i * 1000, i * 1000 + 900) for i in range(n)]
    start = ScanStart("s", "det", SHAPE, "<u2", n, dwell_s=0.001)
    return [start, *frames, ScanEnd("s", "det", "complete")]


def play(simulator) -> Callable[[], None]:
    """Send a simulator's series from a thread; return what waits for its end."""

    def send() -> None:
        simulator.send_headers()
        simulator.send_frames()
        simulator.send_footer()

    thread = threading.Thread(target=send)
    thread.start()
    return thread.join


def test_its_simulators_mock_frames_are_received():
    simulator = ld.DectrisSim.new_mocked("tcp://127.0.0.1", 50, random_port=True)
    endpoint = parse_endpoint(simulator.get_uri().replace("tcp", "dectris+pull", 1))
    with ReceiverProcess(endpoint) as receiver:
        join = play(simulator)
        start, frames, end = parted(received(receiver))
        join()
        assert receiver.stats().decode_errors == 0
        assert receiver.stats().lost_on_wire == 0
    assert start.shape == (512, 512)
    assert [f.index for f in frames] == list(range(50))
    assert all(f.counts.shape == (512, 512) for f in frames)
    assert all((f.counts == f.index).all() for f in frames)  # as it makes them
    assert end.reason == "complete"


@pytest.mark.parametrize("encoding", ["bslz4", "lz4", "raw"])
def test_its_simulator_plays_what_we_encoded_and_it_comes_back(tmp_path, encoding):
    """Its dump is each part with its length, as a file of a real series would be."""
    n, dump = 64, tmp_path / "dump.bin"
    encoder = DectrisEncoder()
    with dump.open("wb") as out:
        for message in scan(n):
            parts = encoder.encode(message, encoding)
            for part in parts[:2] if isinstance(message, ScanStart) else parts:
                out.write(struct.pack("<q", len(part)) + part)
    simulator = ld.DectrisSim("tcp://127.0.0.1", str(dump), random_port=True)
    endpoint = parse_endpoint(simulator.get_uri().replace("tcp", "dectris+pull", 1))
    with ReceiverProcess(endpoint) as receiver:
        join = play(simulator)
        start, frames, _ = parted(received(receiver))
        join()
        assert receiver.stats().decode_errors == 0
    assert (start.frames_expected, start.dwell_s) == (n, 0.001)
    assert [f.index for f in frames] == list(range(n))
    for frame in frames:
        np.testing.assert_array_equal(frame.counts, counts(frame.index))
        assert frame.stop_ns - frame.start_ns == 900


def test_its_receiver_reads_what_we_send(tmp_path: Path):
    n = 40
    messages = scan(n)
    with zmq.Context() as context, context.socket(zmq.PUSH) as push:
        push.setsockopt(zmq.LINGER, 0)
        port = push.bind_to_random_port("tcp://127.0.0.1")
        receiver = ld.DectrisConnection(
            uri=f"tcp://127.0.0.1:{port}",
            handle_path=str(tmp_path / "socket"),
            frame_stack_size=8,
            num_slots=200,
            bytes_per_frame=2 * SHAPE[0] * SHAPE[1],
            huge=False,
        )
        try:
            receiver.start_passive()
            assert push.poll(10_000, zmq.POLLOUT)
            encoder = DectrisEncoder()
            for message in messages:
                parts = encoder.encode(message, "bslz4")
                push.send_multipart(
                    parts[:2] if isinstance(message, ScanStart) else parts
                )
            assert receiver.wait_for_arm(10.0) is not None
            got = list(_frames(receiver, n))
        finally:
            receiver.close()
    assert len(got) == n
    for index, array in enumerate(got):
        np.testing.assert_array_equal(array, counts(index))


def _frames(receiver, n: int):
    """Yield the frames of its shared memory."""
    client, seen = ld.CamClient(receiver.get_socket_path()), 0
    try:
        while seen < n and (stack := receiver.get_next_stack(max_size=8)) is not None:
            out = np.zeros((len(stack), *SHAPE), np.uint16)
            client.decode_range_into_buffer(stack, out, 0, len(stack))
            client.done(stack)
            seen += len(out)
            yield from out
    finally:
        client.close()
