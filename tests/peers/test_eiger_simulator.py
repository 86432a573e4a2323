"""eiger-simulator: ALBA's, which leaves the blocks' header and the hash out."""

import threading
from pathlib import Path

import h5py
import numpy as np
import pytest

from ptystream.ingest.endpoint import parse_endpoint
from ptystream.ingest.process import ReceiverProcess
from tests.peers.environment import environment, free_ports, running
from tests.peers.receiving import connected, parted, received
from tests.peers.simplon import Simplon

pytestmark = [pytest.mark.slow, pytest.mark.system, pytest.mark.timeout(900)]
SHAPE = (256, 256)
N = 200


@pytest.fixture(scope="module")
def programs() -> Path:
    needed = ("numpy", "h5py", "cython", "setuptools<80")
    return environment("eiger-simulator", "eiger-simulator==0.5.1", *needed)


@pytest.fixture(scope="module")
def counts() -> np.ndarray:
    y, x = np.mgrid[-128:128, -128:128]
    rate = 2000 * np.exp(-(x**2 + y**2) / (2 * 18.0**2)) + 0.02
    rates = np.broadcast_to(rate, (10, *SHAPE))
    return np.random.default_rng(0).poisson(rates).astype(np.uint16)


@pytest.mark.parametrize("compression", ["bslz4", "lz4"])
def test_its_frames_are_bit_exact(programs, counts, tmp_path, compression):
    with h5py.File(tmp_path / "master.h5", "w") as file:
        file["entry/data/data_000001"] = counts
    rest, stream = free_ports(2)
    command = [
        *(str(programs / "eiger-simulator"), "--host", "127.0.0.1"),
        *("--port", str(rest), "--zmq", f"tcp://127.0.0.1:{stream}"),
        *("--dataset", str(tmp_path / "master.h5"), "--log-level", "critical"),
        *("--default-compression", compression),
    ]
    url = f"http://127.0.0.1:{rest}"
    endpoint = parse_endpoint(f"dectris+pull://127.0.0.1:{stream}")
    ready = f"{url}/detector/api/1.6.0/status/state"
    with (
        running(command, tmp_path / "log", ready),
        ReceiverProcess(endpoint, max_frame_bytes=1 << 20) as receiver,
    ):
        detector = Simplon(url, "1.6.0")
        side = {"x_pixels_in_detector": SHAPE[1], "y_pixels_in_detector": SHAPE[0]}
        detector.set("detector", **side)
        detector.command("initialize")
        detector.set("stream", mode="enabled", header_detail="basic")
        connected(receiver)  # its socket is bound only now
        detector.set("detector", nimages=N, count_time=0.002)
        detector.command("arm")
        trigger = threading.Thread(target=detector.command, args=("trigger",))
        trigger.start()
        start, frames, _ = parted(received(receiver))
        trigger.join()
        assert receiver.stats().decode_errors == 0
        assert receiver.stats().lost_on_wire == 0
    assert start.shape == SHAPE
    assert start.frames_expected == N
    assert [f.index for f in frames] == list(range(N))
    for frame in frames:
        np.testing.assert_array_equal(frame.counts, counts[frame.index % len(counts)])
