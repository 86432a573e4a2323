import gc
import os
import threading
from types import SimpleNamespace

import numpy as np
import pytest

from ptystream.tape import pace
from ptystream.tape.format import Record
from ptystream.tape.pace import Pace, undisturbed

MS = 1_000_000


class Machine(threading.Event):
    """A clock that waits move, and whose every look takes a microsecond."""

    def __init__(self) -> None:
        super().__init__()
        self.now_ns = 10**12

    def monotonic_ns(self) -> int:
        self.now_ns += 1000
        return self.now_ns

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self.now_ns += round(timeout * 1e9)
        return False


def test_deadlines_are_absolute_and_a_hiccup_is_caught_up_with(monkeypatch):
    """1 kHz, 0.3 ms to send each, and once the machine is away for 20 ms."""
    machine = Machine()
    clock = SimpleNamespace(monotonic_ns=machine.monotonic_ns)
    monkeypatch.setattr(pace, "time", clock)
    paced = Pace(1.0, 60.0, machine)
    began_ns, sent_ns = machine.now_ns, []
    for i in range(1000):
        paced.wait(Record("det", (b"",), 10**15 + i * MS, 0))
        sent_ns.append(machine.now_ns)
        machine.now_ns += 300_000 if i != 500 else 20 * MS
    late_ms = (np.array(sent_ns) - began_ns) / MS - np.arange(1000)
    assert late_ms.min() >= 0
    assert late_ms[[*range(501), *range(530, 1000)]].max() < 0.02
    assert late_ms[501] == pytest.approx(19, abs=0.1)
    assert (np.diff(late_ms[501:528]) < 0).all()
    assert paced.late_ms(0.5) < 0.1
    assert paced.late_max_ms == pytest.approx(19, abs=0.1)


def test_the_collector_waits_and_goes_on_afterwards() -> None:
    assert gc.isenabled()
    with undisturbed(realtime=False) as granted:
        assert not gc.isenabled()
        assert not granted
    assert gc.isenabled()


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="Linux only")
def test_real_time_scheduling_is_given_back() -> None:
    before = os.sched_getscheduler(0)
    with undisturbed(realtime=True) as granted:
        assert granted == (os.sched_getscheduler(0) == os.SCHED_FIFO)
    assert os.sched_getscheduler(0) == before


def test_it_is_put_back_after_an_error() -> None:
    with pytest.raises(RuntimeError), undisturbed(realtime=True):
        raise RuntimeError
    assert gc.isenabled()
