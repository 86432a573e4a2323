"""One scan of a tape that still grows, from anywhere before it."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from ptystream.ingest.scans import ScanClosed
from ptystream.service.missed import Mark, Missed, mark_of
from ptystream.tape.log import TapeReader, TapeWriter
from ptystream.wire import native
from ptystream.wire.messages import Exposure, Message, Samples, ScanStart
from tests.service.exposures import config
from tests.service.test_offline import scan_messages, tape_of


def append(tape: TapeWriter, *messages: Message) -> None:
    for number, message in enumerate(messages):
        stream = "pos" if isinstance(message, Samples) else "det"
        parts = [bytes(p) for p in native.encode(message, seq=number, sent_ns=0)]
        tape.append(stream, parts, number, number)


@contextmanager
def reading(mark: Mark, scan: str) -> Iterator[Missed]:
    missed = Missed(mark, scan, config())
    missed.start()
    try:
        yield missed
    finally:
        missed.close()


def taken(missed: Missed, *, frames: int) -> list[Exposure | ScanClosed]:
    """Return what comes until there are so many exposures and an end."""
    found: list[Exposure | ScanClosed] = []
    deadline_s = time.monotonic() + 20
    while len(found) < frames + 1:
        assert time.monotonic() < deadline_s, found
        found += missed.take(8)
        time.sleep(0.002)
    return found


def indices(events: list[Exposure | ScanClosed]) -> list[int]:
    return [e.frame.index for e in events if isinstance(e, Exposure)]


def test_a_scan_is_read_from_the_middle_of_the_one_before(tmp_path):
    """That one is there in part, with a start that was repeated: it never ends."""
    before = scan_messages("a")
    again = replace(before[0], again=True)
    messages = [*before[:5], again, *before[5:], *scan_messages("b")]
    path = tape_of(tmp_path / "t", *messages)
    with TapeReader(path) as tape:
        ends = [glance.end for glance in tape.glances()]
    for offset in (0, ends[3], ends[3] + 17, ends[8]):  # within a record, too
        with reading(Mark(str(path), offset), "b") as missed:
            got = taken(missed, frames=10)
            assert indices(got) == list(range(10))
            assert isinstance(got[-1], ScanClosed)
            assert (got[-1].scan, got[-1].reason) == ("b", "complete")


def test_what_is_written_later_comes_later(tmp_path):
    messages = scan_messages("a")
    with TapeWriter(tmp_path / "t", {}) as tape:
        append(tape, messages[0], messages[-2], *messages[1:5])
        with reading(Mark(str(tmp_path / "t")), "a") as missed:
            now_s = time.monotonic()
            first = []
            while not missed.all_until(now_s):
                first += missed.take(8)
                assert time.monotonic() < now_s + 20
            assert indices(first) == [0, 1, 2, 3]
            assert not missed.over
            append(tape, *messages[5:-2], messages[-1])
            assert indices(taken(missed, frames=6)) == list(range(4, 10))


def test_a_tape_that_cannot_be_read_is_over_at_once(tmp_path, caplog):
    with reading(Mark(str(tmp_path / "none")), "a") as missed:
        deadline_s = time.monotonic() + 20
        while not missed.over:
            assert time.monotonic() < deadline_s
        assert missed.take(8) == []
    assert "scan a: not from the tape" in caplog.text


def test_a_reader_that_nobody_takes_from_can_be_closed(tmp_path):
    path = tape_of(tmp_path / "t", *scan_messages("a", 36))
    with reading(Mark(str(path)), "a"):
        pass


def test_a_mark_is_where_the_tape_ends_if_it_was_there_before(tmp_path):
    path = tape_of(tmp_path / "t", *scan_messages("a"))
    first = mark_of(path)
    assert first == Mark(str(path), 0)
    assert mark_of(path, first) == Mark(str(path), path.stat().st_size)
    assert mark_of(path, Mark("another", 7)) == Mark(str(path), 0)
    assert mark_of(tmp_path / "none", first) == Mark(str(tmp_path / "none"), 0)


def test_of_a_folder_the_newest_tape_counts(tmp_path):
    for age_s, name in ((0, "old.tape"), (50, "new.tape"), (99, "other.h5")):
        (tmp_path / name).write_bytes(b"x")
        os.utime(tmp_path / name, (age_s, age_s))
    assert mark_of(tmp_path).tape == str(tmp_path / "new.tape")
    assert mark_of(Path("/nowhere")).tape == "/nowhere"


def test_starts_of_other_scans_are_left_out(tmp_path):
    path = tape_of(tmp_path / "t", ScanStart("z", "det"), *scan_messages("a"))
    with reading(Mark(str(path)), "a") as missed:
        assert len(taken(missed, frames=10)) == 11
