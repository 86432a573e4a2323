import gc
import os

import pytest

from ptystream.tape.pace import undisturbed


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
