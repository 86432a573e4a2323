import threading

from ptystream.tape.backlog import Backlog
from ptystream.tape.format import Record


def record(size: int) -> Record:
    return Record("s", (bytes(size),), 0, 0)


def test_bounded_in_number_and_in_bytes() -> None:
    few, small = Backlog(2, 1000), Backlog(1000, 25)
    assert [few.put(record(1)) for _ in range(3)] == [True, True, False]
    assert [small.put(record(10)) for _ in range(3)] == [True, True, False]
    assert small.put(record(5))
    assert len(few.take(0)) == 2
    assert len(small.take(0)) == 3


def test_what_is_being_written_still_takes_room() -> None:
    backlog = Backlog(2, 1000)
    assert backlog.put(record(1))
    assert backlog.put(record(1))
    backlog.take(0)
    assert not backlog.put(record(1))
    assert backlog.take(0) == []
    assert backlog.put(record(1))


def test_done_when_closed_and_empty() -> None:
    backlog = Backlog(2, 1000)
    backlog.put(record(1))
    assert not backlog.done
    backlog.close()
    assert not backlog.done
    assert len(backlog.take(10)) == 1
    assert backlog.done
    assert backlog.take(10) == []  # at once: nothing more comes


def test_take_wakes_for_a_record() -> None:
    backlog = Backlog(2, 1000)
    taken: list[Record] = []
    thread = threading.Thread(target=lambda: taken.extend(backlog.take(20)))
    thread.start()
    backlog.put(record(7))
    thread.join(10)
    assert taken == [record(7)]
