import os
import subprocess
import sys
from collections import deque

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from ptystream.buffers.ring import MAX_COUNTERS, Ring
from ptystream.errors import StoppedError


def put(ring: Ring, record: bytes, *, urgent: bool = False) -> bool:
    view = ring.reserve(len(record), urgent=urgent)
    if view is None:
        return False
    view[:] = record
    ring.commit()
    return True


def take(ring: Ring) -> bytes | None:
    view = ring.peek()
    if view is None:
        return None
    record = bytes(view)
    ring.release()
    return record


class RingMachine(RuleBasedStateMachine):
    """Two attached sides of one ring behave like a bounded queue of bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.reader = Ring.create(8192, reserve_bytes=1024, counters=["puts"])
        self.writer = Ring.attach(os.dup(self.reader.fd), counters=["puts"])
        self.model: deque[bytes] = deque()
        self.puts = 0

    @rule(size=st.integers(0, 3000), urgent=st.booleans(), fill=st.integers(0, 255))
    def put(self, size, urgent, fill):
        record = bytes([fill]) * size
        if put(self.writer, record, urgent=urgent):
            self.model.append(record)
            self.puts += 1
            self.writer.count("puts")
        else:
            # Refused only when it can't fit: the worst case wastes one record's room.
            waiting = sum(len(r) + 128 for r in self.model)
            assert waiting + 2 * size + 128 + 1024 > 4000

    @rule()
    def take(self):
        assert take(self.reader) == (self.model.popleft() if self.model else None)

    @precondition(lambda self: not self.model)
    @rule()
    def empty(self):
        assert self.reader.used == 0

    @rule()
    def counters(self):
        assert self.reader.counters() == {"puts": self.puts}

    def teardown(self) -> None:
        self.writer.close()
        self.reader.close()


TestRing = RingMachine.TestCase


@given(st.lists(st.integers(1, 500), min_size=1, max_size=60))
def test_records_are_aligned_and_in_order(sizes):
    with Ring.create(4096) as ring:
        for number, size in enumerate(sizes):
            assert put(ring, bytes([number]) * size)
            view = ring.peek()
            assert view is not None
            assert np.frombuffer(view, np.uint8).ctypes.data % 64 == 0
            assert bytes(view) == bytes([number]) * size
            ring.release()


def test_frames_leave_room_for_urgent_records():
    with Ring.create(64 << 10, reserve_bytes=16 << 10) as ring:
        accepted = 0
        while put(ring, bytes(1000)):
            accepted += 1
        assert 40 < accepted < 64
        urgent = 0
        while put(ring, b"end", urgent=True):
            urgent += 1
        assert urgent >= (16 << 10) // 128 - 1
        assert ring.used <= ring.capacity


def test_a_record_is_not_urgent_unless_it_says_so():
    """What is urgent may fill the ring to its last byte."""
    with Ring.create(4096, reserve_bytes=64) as ring:
        assert ring.reserve(4096 - 64) is None
        assert ring.reserve(4096 - 64, urgent=True) is not None


def test_as_many_counters_as_there_is_room_for():
    names = [f"c{i}" for i in range(MAX_COUNTERS)]
    with Ring.create(4096, counters=names) as ring:
        for value, name in enumerate(names, 1):
            ring.set(name, value)
        assert ring.counters() == {name: i for i, name in enumerate(names, 1)}
        assert ring.used == 0
        assert put(ring, b"x")
        assert take(ring) == b"x"
    with pytest.raises(ValueError, match="ring of"):
        Ring.create(4096, counters=[*names, "one more"])


def test_a_record_as_large_as_the_ring_is_refused_not_waited_for():
    with Ring.create(4096) as ring:
        assert ring.reserve(4096) is None
        assert ring.reserve(4096 - 64) is not None


def test_a_reserved_record_is_not_seen_before_its_commit():
    with Ring.create(4096) as ring:
        assert ring.reserve(100) is not None
        assert ring.peek() is None
        view = ring.reserve(1)
        assert view is not None
        view[:] = b"x"
        ring.commit()
        assert take(ring) == b"x"
        assert take(ring) is None


def test_misuse_is_told():
    with Ring.create(4096) as ring:
        with pytest.raises(ValueError, match="commit"):
            ring.commit()
        with pytest.raises(ValueError, match="release"):
            ring.release()
        put(ring, b"a")
        ring.peek()
        with pytest.raises(ValueError, match="peek"):
            ring.peek()
    with pytest.raises(ValueError, match="reserve"):
        Ring.create(100, reserve_bytes=100)


def test_closing_with_a_view_alive_neither_raises_nor_crashes():
    ring = Ring.create(4096)
    put(ring, b"abcd")
    view = ring.peek()
    assert view is not None
    array = np.frombuffer(view, np.uint8)
    ring.close()
    ring.close()
    assert array.tobytes() == b"abcd"


@pytest.mark.parametrize("size", [0, 8192])
def test_a_descriptor_that_is_no_ring_is_refused(tmp_path, size):
    path = tmp_path / "file"
    path.write_bytes(bytes(size))
    with path.open("r+b") as file, pytest.raises(StoppedError):
        Ring.attach(os.dup(file.fileno()))


def test_a_ring_too_large_for_the_machine_is_told():
    with pytest.raises(StoppedError, match="memory"):
        Ring.create(1 << 50)


WRITER = """
import sys
from ptystream.buffers.ring import Ring
ring = Ring.attach(int(sys.argv[1]), counters=["sent"])
sent = 0
while sent < 3000:
    size = 1 + sent * 37 % 5000
    view = ring.reserve(size)
    if view is None:
        continue
    view[:] = sent.to_bytes(4, "little")[:1] * size
    ring.commit()
    ring.count("sent")
    sent += 1
"""


def test_another_process_writes_while_this_one_reads():
    with Ring.create(64 << 10, counters=["sent"]) as ring:
        command = [sys.executable, "-c", WRITER, str(ring.fd)]
        with subprocess.Popen(command, pass_fds=[ring.fd]) as child:
            for number in range(3000):
                while (view := ring.peek()) is None:
                    assert child.poll() in (None, 0)
                size = 1 + number * 37 % 5000
                assert bytes(view) == bytes([number & 255]) * size
                ring.release()
        assert child.returncode == 0
        assert ring.counters() == {"sent": 3000}
