"""The European XFEL's own bridge, as a real peer."""

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from ptystream.ingest.endpoint import parse_endpoint
from ptystream.ingest.subscription import Subscription
from ptystream.wire.envelope import EncodedFrame, Limits
from ptystream.wire.messages import ScanStart

LIMITS = Limits(max_frame_bytes=1 << 20)
SOURCE = "SPB_DET_AGIPD1M-1/DET/0CH0:xtdf"


@pytest.fixture
def bridge() -> Any:
    return pytest.importorskip("karabo_bridge.server")


def trains(online: bool) -> Iterator[tuple[int, np.ndarray, dict[str, Any]]]:
    rng = np.random.default_rng(3)
    for number in range(10_000_000_000, 10_000_000_005):
        stack = rng.poisson(5, (4, 64, 32)).astype("<u2")
        sent = np.ascontiguousarray(stack.T) if online else stack
        cells = np.arange(4, dtype="<u2")
        yield number, stack, {"image.data": sent, "image.cellId": cells}


@pytest.mark.parametrize("online", [False, True], ids=["as in files", "as online"])
@pytest.mark.parametrize(
    ("pattern", "kind"), [("req", "REP"), ("pull", "PUSH"), ("sub", "PUB")]
)
def test_frames_of_the_real_bridge_are_bit_exact(bridge, pattern, kind, online):
    expected = list(trains(online))
    with bridge.ServerInThread("tcp://127.0.0.1:*", sock=kind) as server:
        endpoint = parse_endpoint(server.endpoint.replace("tcp", f"karabo+{pattern}"))
        with Subscription(endpoint, streams=["det"], limits=LIMITS) as subscription:
            connected(subscription)
            got: list[Any] = []
            for number, _, data in expected:
                meta = {SOURCE: {"source": SOURCE, "timestamp.tid": number}}
                server.feed({SOURCE: data}, meta)  # its queue holds a single train
                got += collect(subscription, 4 + (not got))
            start, *frames = got
            assert subscription.connected
    assert isinstance(start, ScanStart)
    assert (start.shape, start.meta["source"]) == ((64, 32), SOURCE)
    assert [f.index for f in frames] == list(range(20))
    counts = [f.decode().counts for f in frames]
    np.testing.assert_array_equal(counts, np.concatenate([s for _, s, _ in expected]))
    assert (subscription.decode_errors, subscription.lost_on_wire) == (0, 0)


def connected(subscription: Subscription) -> None:
    deadline = time.monotonic() + 10
    while not subscription.connected and time.monotonic() < deadline:
        assert list(subscription.messages(1)) == []
        subscription.socket.poll(10)
    if subscription.endpoint.pattern == "sub":
        # The bridge's PUB can't tell who listens; its first train may go to nobody.
        subscription.socket.poll(200)


def collect(subscription: Subscription, n: int) -> list[Any]:
    got: list[Any] = []
    deadline = time.monotonic() + 10
    while len(got) < n and time.monotonic() < deadline:
        subscription.socket.poll(50)
        # A payload lives as long as its message: it is decoded at once.
        for envelope in subscription.messages(4):
            got.append(envelope.message)
    return got


def test_the_simulated_detector_is_read_as_its_own_client_reads_it(bridge):
    client_of = pytest.importorskip("karabo_bridge").Client
    simulation = pytest.importorskip("karabo_bridge.simulation")
    detector = simulation.AGIPDModule(SOURCE, raw=True, gen="random")
    data, meta = detector.gen_data(10_000_000_000)
    limits = Limits(max_frame_bytes=16 << 20)
    with bridge.ServerInThread("tcp://127.0.0.1:*") as real:
        # Beyond this pyzmq would start a thread that it never ends.
        real.server_socket.copy_threshold = 1 << 30
        endpoint = parse_endpoint(real.endpoint.replace("tcp", "karabo+req"))
        with Subscription(endpoint, streams=["det"], limits=limits) as subscription:
            real.feed(data, meta)
            start, *frames = collect(subscription, 65)
        for _ in range(2):  # we had already asked for one more
            real.feed(data, meta)
        with client_of(real.endpoint, timeout=10) as client:
            theirs, _ = client.next()
    assert len(frames) == 64
    stack = theirs[SOURCE]["image.data"]  # [fast, slow, pulses], as online
    for pulse, frame in enumerate(frames):
        assert isinstance(frame, EncodedFrame)
        np.testing.assert_array_equal(frame.decode().counts, stack[:, :, pulse].T)
    assert start.shape == (512, 128)
