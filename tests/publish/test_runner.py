import logging
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from ptystream.publish.runner import SinkThread
from ptystream.publish.sink import FrameCounts, RunEnd

FRAMES = FrameCounts()
END = RunEnd("complete", "converged", 1.0)


class Recorder:
    """A sink that keeps what it was told, may be held up, and may raise."""

    name = "recorder"

    def __init__(self) -> None:
        self.heard: list[tuple[str, object]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.inside = threading.Event()
        self.broken: set[str] = set()

    def note(self, what: str, value: object = None) -> None:
        self.inside.set()
        assert self.gate.wait(20)
        if what in self.broken:
            raise OSError("no space")
        self.heard.append((what, value))

    def start(self, info) -> None:
        self.note("start", info.run)

    def update(self, snapshot, frames) -> None:
        self.note("update", snapshot.step)

    def stop(self, snapshot, frames, end) -> None:
        self.note("stop", end.reason)

    def close(self) -> None:
        self.note("close")


@pytest.fixture
def sink() -> Iterator[Recorder]:
    sink = Recorder()
    yield sink
    sink.gate.set()


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "never happened"
        time.sleep(0.002)


def test_a_run_arrives_in_order(sink, snapshot, info):
    with SinkThread(sink) as thread:
        assert thread.start(info())
        wait_for(lambda: len(sink.heard) == 1)
        thread.update(snapshot(step=1), FRAMES)
        wait_for(lambda: len(sink.heard) == 2)
        thread.stop(snapshot(step=2), FRAMES, END)
    assert sink.heard == [
        ("start", "run-1"),
        ("update", 1),
        ("stop", "complete"),
        ("close", None),
    ]
    assert thread.stats().delivered == 4
    assert thread.stats().in_flight_s == 0


def test_updates_are_latest_wins_and_the_caller_never_waits(sink, snapshot, info):
    sink.gate.clear()
    with SinkThread(sink) as thread:
        thread.start(info())
        assert sink.inside.wait(10)
        began_s = time.monotonic()
        for step in range(100):
            thread.update(snapshot(step=step), FRAMES)
        assert time.monotonic() - began_s < 5
        assert thread.stats().in_flight_s > 0
        sink.gate.set()
        wait_for(lambda: len(sink.heard) == 2)
    assert sink.heard[1] == ("update", 99)
    assert thread.stats().skipped == 99


def test_stop_overtakes_the_update_that_waits(sink, snapshot, info):
    sink.gate.clear()
    with SinkThread(sink) as thread:
        thread.start(info())
        thread.update(snapshot(), FRAMES)
        thread.stop(snapshot(), FRAMES, END)
        sink.gate.set()
    assert [what for what, _ in sink.heard] == ["start", "stop", "close"]
    assert thread.stats().skipped == 1


def test_an_update_belongs_to_its_run(sink, snapshot, info):
    sink.gate.clear()
    with SinkThread(sink) as thread:
        for run in ("a", "b"):
            thread.start(info(run))
            thread.update(snapshot(), FRAMES)
            if run == "a":
                thread.stop(snapshot(), FRAMES, END)
        sink.gate.set()
        wait_for(lambda: len(sink.heard) == 4)
        thread.stop(None, FRAMES, END)
    heard = [what for what, _ in sink.heard]
    assert heard == ["start", "stop", "start", "update", "stop", "close"]


def test_runs_are_taken_whole_or_refused_whole(sink, snapshot, info):
    sink.gate.clear()
    with SinkThread(sink, waiting_runs=2) as thread:
        taken = []
        for number in range(6):
            if thread.start(info(f"r{number}")):
                taken.append(f"r{number}")
            assert sink.inside.wait(10)
            thread.update(snapshot(), FRAMES)
            thread.stop(snapshot(), FRAMES, END)
        sink.gate.set()
    starts = [run for what, run in sink.heard if what == "start"]
    assert starts == taken == ["r0", "r1", "r2"]
    assert sum(what == "stop" for what, _ in sink.heard) == 3
    assert thread.stats().refused_runs == 3


def test_a_raising_sink_is_counted_logged_once_and_tried_again(
    sink, snapshot, info, caplog
):
    sink.broken = {"update"}
    with caplog.at_level(logging.ERROR), SinkThread(sink) as thread:
        thread.start(info())
        for step in range(3):
            thread.update(snapshot(step=step), FRAMES)
            wait_for(lambda n=step: thread.stats().failures == n + 1)
        sink.broken = set()
        thread.update(snapshot(step=9), FRAMES)
        wait_for(lambda: ("update", 9) in sink.heard)
    assert len(caplog.records) == 1
    assert "no space" in caplog.text
    assert thread.stats().failures == 3


def test_a_start_that_failed_is_repeated_first(sink, snapshot, info):
    sink.broken = {"start"}
    with SinkThread(sink) as thread:
        thread.start(info())
        wait_for(lambda: thread.stats().failures == 1)
        thread.update(snapshot(step=1), FRAMES)
        wait_for(lambda: thread.stats().failures == 2)
        assert sink.heard == []
        sink.broken = set()
        thread.update(snapshot(step=2), FRAMES)
        wait_for(lambda: len(sink.heard) == 2)
    assert sink.heard[:2] == [("start", "run-1"), ("update", 2)]


def test_an_action_runs_in_the_sinks_thread(sink):
    ran: list[str] = []
    with SinkThread(sink) as thread:
        thread.soon(lambda: ran.append(threading.current_thread().name))
    assert ran == ["sink-recorder"]


def test_a_hanging_sink_is_left_behind(sink, info, caplog):
    sink.gate.clear()
    thread = SinkThread(sink)
    with thread:
        thread.start(info())
        assert sink.inside.wait(10)
        assert not thread.close(timeout_s=0.1)
        assert "hangs in start" in caplog.text
        sink.gate.set()
    assert thread.close()


def test_messages_without_a_run_are_ignored(sink, snapshot, info):
    with SinkThread(sink) as thread:
        thread.update(snapshot(), FRAMES)
        thread.stop(snapshot(), FRAMES, END)
    assert not thread.start(info())
    assert sink.heard == [("close", None)]
