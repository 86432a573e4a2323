import threading
import time
from pathlib import Path

import numpy as np
import pytest
import zmq

from ptystream.errors import ConfigError, StoppedError
from ptystream.tape.format import Record
from ptystream.tape.log import TapeReader
from ptystream.tape.outlets import ZmqOutlet
from ptystream.tape.recorder import Recorder
from ptystream.tape.replay import replay
from ptystream.tape.taps import Tap
from tests.tape.tape_peers import Peers

HERE = "tcp://127.0.0.1:*"
MS = 1_000_000


def connected(peers: Peers, kind: int, outlet: ZmqOutlet) -> zmq.Socket:
    socket = peers.socket(kind)
    socket.setsockopt(zmq.RCVTIMEO, 10_000)
    if kind == zmq.SUB:
        socket.setsockopt(zmq.SUBSCRIBE, b"")
    socket.connect(outlet.address)
    return socket


def tape(n: int, gap_ns: int, stream: str = "det") -> list[Record]:
    start_ns = 10**15  # another boot's clock
    return [
        Record(stream, (f"{stream}/{i}".encode(), b"x" * 10), start_ns + i * gap_ns, 0)
        for i in range(n)
    ]


class Listener:
    """Receives in a thread of its own and stamps what comes."""

    def __init__(self, socket: zmq.Socket, n: int) -> None:
        self.parts: list[list[bytes]] = []
        self.times_ns: list[int] = []
        self._thread = threading.Thread(target=self._run, args=(socket, n))
        self._thread.start()

    def _run(self, socket: zmq.Socket, n: int) -> None:
        for _ in range(n):
            self.parts.append(socket.recv_multipart())
            self.times_ns.append(time.monotonic_ns())

    def join(self) -> None:
        self._thread.join(20)


@pytest.mark.parametrize(("out", "into"), [("pub", zmq.SUB), ("push", zmq.PULL)])
def test_every_byte_comes_out_again(peers: Peers, out: str, into: int) -> None:
    sent = [
        Record("det", (b"ptys1/det/frame", b"", bytes(range(256)) * 400), 1, 0),
        Record("det", (memoryview(b"topic"),), 2, 0),
        Record("pos", (b"no outlet for this",), 3, 0),
    ]
    with ZmqOutlet(HERE, out) as outlet:  # type: ignore[arg-type]
        listener = Listener(connected(peers, into, outlet), 2)
        stats = replay(sent, {"det": outlet}, speed=0)
        listener.join()
    assert listener.parts == [[bytes(p) for p in r.parts] for r in sent[:2]]
    assert (stats.sent, stats.unrouted, stats.dropped, stats.loops) == (2, 1, 0, 1)
    assert stats.sent_bytes == sum(len(p) for r in sent[:2] for p in r.parts)


def test_at_1_khz_nothing_comes_before_its_time(peers: Peers) -> None:
    """How late is the machine's affair too: test_pace has one of its own."""
    sent = tape(1000, MS)
    with ZmqOutlet(HERE) as outlet:
        listener = Listener(connected(peers, zmq.SUB, outlet), len(sent))
        began_ns = time.monotonic_ns()
        stats = replay(sent, {"det": outlet})
        listener.join()
    assert stats.sent == 1000
    assert (np.array(listener.times_ns) - began_ns >= np.arange(1000) * MS).all()


@pytest.mark.parametrize(("speed", "seconds"), [(0.5, 0.8), (1.0, 0.4), (4.0, 0.1)])
def test_speed_scales_time(peers: Peers, speed: float, seconds: float) -> None:
    with ZmqOutlet(HERE, "push") as outlet:
        listener = Listener(connected(peers, zmq.PULL, outlet), 5)
        stats = replay(tape(5, 100 * MS), {"det": outlet}, speed=speed)
        listener.join()
    assert seconds <= stats.seconds < seconds + 0.3


@pytest.mark.parametrize("speed", [0.0, float("inf")])
def test_flat_out_ignores_time(peers: Peers, speed: float) -> None:
    with ZmqOutlet(HERE, "push") as outlet:
        listener = Listener(connected(peers, zmq.PULL, outlet), 300)
        stats = replay(tape(300, 10_000 * MS), {"det": outlet}, speed=speed)
        listener.join()
    assert stats.sent == 300
    assert stats.seconds < 5
    assert stats.late_max_ms == 0
    assert listener.parts[-1][0] == b"det/299"


def test_flat_out_waits_for_a_slow_peer(peers: Peers) -> None:
    n = 3000
    with ZmqOutlet(HERE, "pub", high_water=10, patience_s=10) as outlet:
        socket = peers.socket(zmq.SUB)
        socket.setsockopt(zmq.RCVHWM, 10)
        socket.setsockopt(zmq.SUBSCRIBE, b"")
        socket.setsockopt(zmq.RCVTIMEO, 10_000)
        socket.connect(outlet.address)
        listener = Listener(socket, n)
        stats = replay(tape(n, MS), {"det": outlet}, speed=0)
        listener.join()
    assert (stats.sent, stats.dropped) == (n, 0)
    assert len(listener.parts) == n


def test_a_peer_that_hangs_costs_its_patience_once(peers: Peers) -> None:
    big = [Record("det", (bytes(100_000),), i, 0) for i in range(500)]
    with ZmqOutlet(HERE, high_water=2, patience_s=0.2, linger_s=0) as outlet:
        socket = peers.socket(zmq.SUB)
        socket.setsockopt(zmq.RCVHWM, 2)
        socket.setsockopt(zmq.SUBSCRIBE, b"")
        socket.connect(outlet.address)
        stats = replay(big, {"det": outlet}, speed=0)
    assert stats.dropped > 0
    assert stats.sent + stats.dropped == 500
    assert 0.2 <= stats.seconds < 5


def test_what_nobody_hears_is_dropped_not_sent(peers: Peers) -> None:
    with ZmqOutlet(HERE) as outlet:
        assert replay(tape(9, 0), {"det": outlet}, wait_s=0, speed=0).dropped == 9
        socket = connected(peers, zmq.SUB, outlet)
        assert outlet.wait_for_peer(10)
        socket.close()
        deadline = time.monotonic() + 10
        while outlet.wait_for_peer(0):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert replay(tape(9, 0), {"det": outlet}, wait_s=0, speed=0).sent == 0


@pytest.mark.parametrize("out", ["pub", "push"])
def test_without_a_peer_it_says_so(out: str) -> None:
    with ZmqOutlet(HERE, out, linger_s=0) as outlet:  # type: ignore[arg-type]
        with pytest.raises(StoppedError, match=r"det on tcp://127\.0\.0\.1.*0\.2 s"):
            replay(tape(1, 0), {"det": outlet}, wait_s=0.2)


def test_loops(peers: Peers) -> None:
    with ZmqOutlet(HERE, "push") as outlet:
        listener = Listener(connected(peers, zmq.PULL, outlet), 6)
        stats = replay(tape(2, 100 * MS), {"det": outlet}, loops=3)
        listener.join()
        assert replay([], {}, loops=None).loops == 0
        assert replay(tape(3, 0), {}, loops=None).unrouted == 3
    assert (stats.sent, stats.loops) == (6, 3)
    assert [p[0] for p in listener.parts] == [b"det/0", b"det/1"] * 3
    assert 0.3 <= stats.seconds < 0.9


def test_a_stop_ends_a_long_pause(peers: Peers) -> None:
    stop = threading.Event()
    timer = threading.Timer(0.2, stop.set)
    with ZmqOutlet(HERE, "push") as outlet:
        listener = Listener(connected(peers, zmq.PULL, outlet), 1)
        timer.start()
        stats = replay(tape(2, 30_000 * MS), {"det": outlet}, loops=None, stop=stop)
        listener.join()
        timer.join()
    assert stats.stopped
    assert (stats.sent, stats.loops) == (1, 0)
    assert stats.seconds < 5


def test_clocks_that_jump_are_tamed(peers: Peers) -> None:
    times = [5_000, 10**9, 10**9 + 50, 3, 53]  # ms: a resumed tape, then a reboot
    sent = [Record("det", (b"x",), t * MS, 0) for t in times]
    with ZmqOutlet(HERE, "push") as outlet:
        listener = Listener(connected(peers, zmq.PULL, outlet), 5)
        stats = replay(sent, {"det": outlet}, max_gap_s=0.1)
        listener.join()
    assert 0.2 <= stats.seconds < 0.5


def test_two_streams_keep_their_order_in_time(peers: Peers) -> None:
    det, pos = tape(50, 2 * MS), tape(10, 10 * MS, "pos")
    both = sorted(det + pos, key=lambda r: r.mono_ns)
    with ZmqOutlet(HERE, "push") as a, ZmqOutlet(HERE, "pub") as b:
        one = Listener(connected(peers, zmq.PULL, a), 50)
        other = Listener(connected(peers, zmq.SUB, b), 10)
        stats = replay(both, {"det": a, "pos": b})
        one.join()
        other.join()
    assert stats.sent == 60
    assert [p[0] for p in other.parts] == [f"pos/{i}".encode() for i in range(10)]


def test_a_recorded_replay_is_the_same_tape(tmp_path: Path) -> None:
    both = sorted(tape(40, 5 * MS) + tape(10, 20 * MS, "pos"), key=lambda r: r.mono_ns)
    with ZmqOutlet(HERE, "push") as a, ZmqOutlet(HERE, "pub") as b:
        taps = [Tap("det", a.address, "pull"), Tap("pos", b.address)]
        with Recorder(taps, tmp_path / "copy.tape", idle_s=0.3) as recorder:
            replay(both, {"det": a, "pos": b})
            assert recorder.wait(20)
    with TapeReader(tmp_path / "copy.tape") as copy:
        found = list(copy)
        assert not copy.damage
    assert sorted(r.parts for r in found) == sorted(r.parts for r in both)
    spans_ms = [(r[-1].mono_ns - r[0].mono_ns) / MS for r in (both, found)]
    assert abs(spans_ms[0] - spans_ms[1]) < 50


def test_nonsense_is_refused() -> None:
    for speed in (-1.0, float("nan"), 1e-9):
        with pytest.raises(ConfigError, match="speed"):
            replay([], {}, speed=speed)
    for address, pattern in (("nonsense", "pub"), (HERE, "sub")):
        with pytest.raises(ConfigError), ZmqOutlet(address, pattern):  # type: ignore[arg-type]
            pass
