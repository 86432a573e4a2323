"""Our receiver process, until a scan of a peer is in."""

import select
import time
from collections.abc import Callable

from ptystream.ingest.process import ReceiverProcess
from ptystream.wire.messages import Frame, Message, ScanEnd, ScanStart


def received(receiver: ReceiverProcess, seconds: float = 30.0) -> list[Message]:
    """Return the messages up to the end of a scan, that included."""
    got: list[Message] = []
    deadline = time.monotonic() + seconds
    while not any(isinstance(m, ScanEnd) for m in got):
        assert time.monotonic() < deadline, f"{len(got)} messages, {receiver.stats()}"
        if not (new := receiver.drain()):
            select.select([receiver], [], [], 0.5)
        got += new
    return got


def connected(receiver: ReceiverProcess) -> None:
    """Wait until the peer is there."""
    eventually(lambda: receiver.stats().connected)


def eventually(happens: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def parted(messages: list[Message]) -> tuple[ScanStart, list[Frame], ScanEnd]:
    """Return start, frames and end; there must be nothing else."""
    start, *middle, end = messages
    assert isinstance(start, ScanStart)
    assert isinstance(end, ScanEnd)
    frames = [m for m in middle if isinstance(m, Frame)]
    assert len(frames) == len(middle)
    assert {m.scan for m in messages} == {start.scan}
    return start, frames, end
