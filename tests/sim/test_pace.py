import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from ptystream.sim.pace import Ahead, Pacer
from ptystream.wire.envelope import EncodedFrame, encode_frame
from ptystream.wire.messages import Frame


def frames(count: int) -> list[EncodedFrame]:
    dark = np.zeros((2, 2), np.uint16)
    return [encode_frame(Frame("scan", i, dark)) for i in range(count)]


def test_deadlines_are_absolute():
    pacer = Pacer(time.monotonic() - 5, threading.Event(), lambda: None)
    assert pacer.wait(4)
    assert pacer.late_s == pytest.approx(1, abs=0.5)
    assert pacer.wait(5.01)
    assert pacer.elapsed_s() >= 5.01


def test_keeps_the_stream_alive_while_it_waits():
    beats: list[int] = []
    pacer = Pacer(time.monotonic(), threading.Event(), lambda: beats.append(1))
    assert pacer.wait(0.12)
    assert beats


def test_a_halt_ends_any_wait():
    halt = threading.Event()
    pacer = Pacer(time.monotonic(), halt, halt.set)
    assert not pacer.wait(1000)
    assert pacer.halted
    assert not pacer.wait(-1)


def test_frames_come_out_in_order():
    ahead = Ahead(100, threading.Event())
    ahead.fill(frames(7))
    assert ahead.ready
    assert [f.index for f in ahead] == list(range(7))


def test_the_maker_waits_for_room():
    halt = threading.Event()
    ahead = Ahead(3, halt)
    with ThreadPoolExecutor(1) as pool:
        maker = pool.submit(ahead.fill, frames(10))
        while not ahead.ready:
            time.sleep(0.001)
        assert not maker.done()
        assert [f.index for f in ahead] == list(range(10))


def test_a_halt_frees_maker_and_taker():
    halt = threading.Event()
    ahead = Ahead(3, halt)
    with ThreadPoolExecutor(2) as pool:
        maker = pool.submit(ahead.fill, frames(10))
        while not ahead.ready:
            time.sleep(0.001)
        halt.set()
        assert maker.result(5) is None
        assert list(ahead) == []


def test_a_taker_waits_for_a_slow_maker():
    halt = threading.Event()
    ahead = Ahead(3, halt)
    with ThreadPoolExecutor(1) as pool:
        taker = pool.submit(lambda: [f.index for f in ahead])
        time.sleep(0.1)  # longer than the taker's own wait: it must not give up
        ahead.fill(frames(2))
        assert taker.result(5) == [0, 1]
