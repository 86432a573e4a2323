import os
import time
from pathlib import Path

import pytest
import zmq

from ptystream.errors import ConfigError, TapeError
from ptystream.tape.log import TapeReader
from ptystream.tape.recorder import Recorder
from ptystream.tape.taps import MAX_PARTS, Tap
from ptystream.wire import native
from ptystream.wire.messages import Heartbeat, ScanEnd, ScanStart
from tests.tape.tape_peers import Peers


def bound(peers: Peers, kind: int) -> tuple[zmq.Socket, str]:
    socket = peers.socket(kind)
    port = socket.bind_to_random_port("tcp://127.0.0.1")
    return socket, f"tcp://127.0.0.1:{port}"


def subscribed(socket: zmq.Socket) -> None:
    assert socket.poll(10_000)
    socket.recv()


def until(recorder: Recorder, received: int) -> None:
    deadline = time.monotonic() + 10
    while recorder.stats().received < received:
        assert time.monotonic() < deadline, recorder.stats()
        time.sleep(0.005)


def records(path: Path) -> list[tuple[str, tuple[bytes | memoryview, ...]]]:
    with TapeReader(path) as tape:
        found = [(r.stream, r.parts) for r in tape]
        assert not tape.damage
    return found


def end(scan: str, stream: str = "det") -> list[bytes | memoryview]:
    message = ScanEnd(scan, stream, "complete", 1)  # type: ignore[arg-type]
    return native.encode(message, seq=9, sent_ns=1)


def test_records_every_part_of_several_streams(peers: Peers, tmp_path: Path) -> None:
    det, det_at = bound(peers, zmq.XPUB)
    pos, pos_at = bound(peers, zmq.PUSH)
    path = tmp_path / "two.tape"
    taps = [Tap("det", det_at, "sub", b"ptys1/"), Tap("pos", pos_at, "pull")]
    frames = [[b"ptys1/det/frame", str(i).encode(), bytes(9000)] for i in range(200)]
    rows = [[b"row", str(i).encode()] for i in range(300)]
    before_ns = time.monotonic_ns(), time.time_ns()
    with Recorder(taps, path, header={"scan": 7}) as recorder:
        subscribed(det)
        det.send_multipart([b"other topic", b"not ours"])
        for message in frames:
            det.send_multipart(message)
        for message in rows:
            pos.send_multipart(message)
        until(recorder, 500)
        assert not recorder.wait(0)
        recorder.stop()
        assert recorder.wait(10)
        stats = recorder.stats()
    assert (stats.received, stats.written, stats.dropped) == (500, 500, 0)
    found = records(path)
    assert [list(p) for s, p in found if s == "det"] == frames
    assert [list(p) for s, p in found if s == "pos"] == rows
    with TapeReader(path) as tape:
        assert tape.header["scan"] == 7
        assert tape.header["taps"][0]["address"] == det_at
        times = [(r.mono_ns, r.wall_ns) for r in tape]
    assert times[0] > before_ns
    assert [m for m, _ in times] == sorted(m for m, _ in times)
    assert times[-1][0] <= time.monotonic_ns()


def test_leaving_saves_what_was_received(peers: Peers, tmp_path: Path) -> None:
    push, address = bound(peers, zmq.PUSH)
    path = tmp_path / "left.tape"
    with Recorder([Tap("det", address, "pull")], path) as recorder:
        for i in range(2000):
            push.send_multipart([str(i).encode(), bytes(1000)])
        until(recorder, 1)
    stats = recorder.stats()
    assert stats.written == stats.received == len(records(path))


def test_a_full_backlog_drops_and_counts(peers: Peers, tmp_path: Path) -> None:
    push, address = bound(peers, zmq.PUSH)
    path = tmp_path / "drops.tape"
    tap = Tap("det", address, "pull")
    with Recorder([tap], path, backlog_bytes=50_000) as recorder:
        push.send_multipart([b"too big for the backlog", bytes(60_000)])
        push.send_multipart([b"fits", bytes(10_000)])
        until(recorder, 2)
    stats = recorder.stats()
    assert (stats.received, stats.written, stats.dropped) == (2, 1, 1)
    assert [p[0] for _, p in records(path)] == [b"fits"]


def test_a_message_of_too_many_parts_is_refused(peers: Peers, tmp_path: Path) -> None:
    push, address = bound(peers, zmq.PUSH)
    path = tmp_path / "parts.tape"
    with Recorder([Tap("det", address, "pull")], path) as recorder:
        push.send_multipart([b""] * (MAX_PARTS + 1))
        push.send_multipart([b""] * MAX_PARTS)
        until(recorder, 2)
    assert recorder.stats().refused == 1
    assert [len(parts) for _, parts in records(path)] == [MAX_PARTS]


def test_stops_when_the_scans_have_ended_on_every_tap(
    peers: Peers, tmp_path: Path
) -> None:
    det, det_at = bound(peers, zmq.PUSH)
    pos, pos_at = bound(peers, zmq.PUSH)
    taps = [Tap("det", det_at, "pull"), Tap("pos", pos_at, "pull")]
    with Recorder(taps, tmp_path / "scans.tape", scans=2) as recorder:
        for message in (end("a"), end("a"), end("b"), [b"ptys1/det/end", b"junk"]):
            det.send_multipart(message)
        pos.send_multipart(end("a", "pos"))
        until(recorder, 5)
        assert not recorder.wait(0.3)  # a repeated end is one, and pos has one to go
        assert recorder.stats().scans_ended == {"det": 2, "pos": 1}
        pos.send_multipart(end("b", "pos"))
        assert recorder.wait(10)
    assert recorder.stats().written == 6


def test_stops_when_idle_but_not_before_the_first_message(
    peers: Peers, tmp_path: Path
) -> None:
    push, address = bound(peers, zmq.PUSH)
    tap = Tap("det", address, "pull")
    beat = native.encode(Heartbeat("a", "det"), seq=1, sent_ns=1)
    start = native.encode(ScanStart("a", "det"), seq=0, sent_ns=1)
    with Recorder([tap], tmp_path / "idle.tape", idle_s=0.2) as recorder:
        push.send_multipart(beat)
        until(recorder, 1)
        assert not recorder.wait(0.4)
        push.send_multipart(start)
        until(recorder, 2)
        deadline = time.monotonic() + 10
        while not recorder.wait(0.05):  # heartbeats don't keep it going
            push.send_multipart(beat)
            assert time.monotonic() < deadline


def test_survives_a_publisher_that_comes_later(peers: Peers, tmp_path: Path) -> None:
    first, address = bound(peers, zmq.XPUB)
    first.close(linger=0)
    path = tmp_path / "later.tape"
    with Recorder([Tap("det", address)], path) as recorder:
        second = peers.socket(zmq.XPUB)
        second.bind(address)
        subscribed(second)
        second.send_multipart([b"hello"])
        until(recorder, 1)
    assert records(path) == [("det", (b"hello",))]


def test_bad_taps_are_refused_and_leave_no_tape(tmp_path: Path) -> None:
    path = tmp_path / "bad.tape"
    good = Tap("det", "tcp://127.0.0.1:9")
    for taps in (
        [],
        [good, good],
        [Tap("det", "nonsense")],
        [Tap("det", good.address, "push")],  # type: ignore[arg-type]
    ):
        with pytest.raises(ConfigError), Recorder(taps, path):
            pass
    assert not path.exists()


def test_an_existing_tape_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "old.tape"
    path.write_bytes(b"precious")
    with pytest.raises(TapeError), Recorder([Tap("d", "tcp://127.0.0.1:9")], path):
        pass
    assert path.read_bytes() == b"precious"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_failing_disk_ends_the_recording_loudly(peers: Peers, tmp_path: Path) -> None:
    push, address = bound(peers, zmq.PUSH)
    path = tmp_path / "full.tape"
    recorder = Recorder([Tap("det", address, "pull")], path, fsync_s=None)
    with pytest.raises(TapeError, match="No space left"):
        record_on_a_full_disk(recorder, push)
    assert recorder.stats().written == 0


def record_on_a_full_disk(recorder: Recorder, push: zmq.Socket) -> None:
    with recorder, open("/dev/full", "wb") as full:
        os.dup2(full.fileno(), recorder._writer._fd)
        push.send_multipart([b"lost"])
        assert recorder.wait(10)
