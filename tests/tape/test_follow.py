import threading
import time
from pathlib import Path

import pytest

from ptystream.tape import follow
from ptystream.tape.follow import GrowingTape, being_written
from ptystream.tape.log import TapeReader, TapeWriter
from tests.tape.scan_records import records

TAPE = records(40)


def test_records_come_as_they_are_written_until_the_writer_goes(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.tape"
    opened, go_on = threading.Event(), threading.Event()

    def write() -> None:
        with TapeWriter(path, {}) as writer:
            opened.set()
            for record in TAPE:
                writer.append_batch([record])
                go_on.wait(10)
                go_on.clear()

    thread = threading.Thread(target=write)
    thread.start()
    assert opened.wait(10)
    found = []
    with TapeReader(path) as tape:
        for record in GrowingTape(tape):
            found.append(record)
            go_on.set()
    thread.join(10)
    assert [r.parts for r in found] == [r.parts for r in TAPE]


def test_a_torn_record_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.tape"
    with TapeWriter(path, {}) as writer:
        writer.append_batch(TAPE)
    raw = path.read_bytes()
    half = path.with_name("half.tape")
    with TapeReader(path) as tape:
        cut = list(tape)[20].offset + 30
    half.write_bytes(raw[:cut])
    seen: list[int] = []

    def finish() -> None:
        if half.stat().st_size < len(raw):
            assert len(seen) == 20
            half.write_bytes(raw)

    with TapeReader(half) as tape:
        growing = GrowingTape(tape, idle_s=0.3, idle=finish)
        monkeypatch.setattr(follow, "being_written", lambda _: True)
        for record in growing:
            seen.append(record.offset)
    assert len(seen) == len(TAPE)


def test_idle_and_stop_end_it(tmp_path: Path) -> None:
    path = tmp_path / "a.tape"
    with TapeWriter(path, {}) as writer, TapeReader(path) as tape:
        writer.append_batch(TAPE)
        began_s = time.monotonic()
        assert len(list(GrowingTape(tape, idle_s=0.2))) == len(TAPE)
        assert 0.2 <= time.monotonic() - began_s < 5
        stops = iter([False] * 4 + [True] * 100)
        assert 0 < len(list(GrowingTape(tape, stop=lambda: next(stops)))) < 5


def test_a_writer_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "a.tape"
    with TapeWriter(path, {}), TapeReader(path) as tape:
        assert being_written(tape)
    with TapeReader(path) as tape:
        assert not being_written(tape)
