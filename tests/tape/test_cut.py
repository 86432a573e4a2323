from dataclasses import replace

import pytest

from ptystream.errors import TapeError
from ptystream.tape.cut import Cut, Cutter
from ptystream.tape.format import Record
from ptystream.tape.kinds import Kind, Marked, marked
from ptystream.tape.source import native_messages
from tests.tape.scan_records import MS, records

ONE, TWO = records(20, "one"), records(30, "two", at_ns=1000 * MS)
TAPE = [*ONE, *TWO]


def cut(tape: list[Record], **what) -> list[Record]:
    cutter = Cutter(Cut(**what))
    cutter.look(marked(tape))
    return list(cutter.pick(marked(tape)))


def frames(tape: list[Record]) -> list[int]:
    return [m.index for m in marked(tape) if m.kind == "frame"]


def test_nothing_asked_keeps_all() -> None:
    assert cut(TAPE) == TAPE


def test_one_scan() -> None:
    assert cut(TAPE, scan="one") == ONE
    assert cut(TAPE, scan="two") == TWO


def test_frames_leave_positions_starts_and_ends() -> None:
    found = cut(ONE, frames=(5, 8))
    assert frames(found) == [5, 6, 7]
    assert [r for r in found if m_kind(r) != "frame"] == [
        r for r in ONE if m_kind(r) != "frame"
    ]
    both = cut(TAPE, scan="two", frames=(25, 99))
    assert frames(both) == [25, 26, 27, 28, 29]


def m_kind(record: Record) -> Kind:
    return next(iter(marked([record]))).kind


def test_seconds_keep_the_starts_before_them() -> None:
    found = cut(ONE, seconds=(0.010, 0.015))
    assert [r.mono_ns for r in found] == [i * MS for i in (0, 1, 10, 11, 12, 13, 14)]
    assert [m.kind for m in marked(found)][:2] == ["start", "start"]
    assert cut(TAPE, seconds=(0.5, 10)) == [*ONE[:2], *TWO]
    assert cut(TAPE, scan="two", seconds=(1.0, 1.001)) == TWO[:1]  # of the tape


def test_a_scan_that_isn_t_there_is_told_with_those_that_are() -> None:
    with pytest.raises(TapeError, match=r"'three'.*it holds one, two"):
        cut(TAPE, scan="three")


def unnamed(tape: list[Record], shift_ms: int = 0) -> list[Marked]:
    """Mark a tape whose positions go by another name than its frames."""
    found = []
    for mark in marked(tape):
        if mark.record.stream == "pos":
            record = replace(mark.record, mono_ns=mark.record.mono_ns + shift_ms * MS)
            mark = Marked(record, mark.kind, f"arm {mark.scan}", mark.index)
        found.append(mark)
    return sorted(found, key=lambda mark: mark.record.mono_ns)


@pytest.mark.parametrize("shift_ms", [-20, 0, 40])
def test_positions_without_the_scan_s_name_go_by_the_time(shift_ms: int) -> None:
    tape = unnamed([replace(r, mono_ns=r.mono_ns + 100 * MS) for r in TAPE], shift_ms)
    for scan in ("one", "two"):
        cutter = Cutter(Cut(scan=scan))
        cutter.look(tape)
        kept = list(cutter.pick(tape))
        wanted = [m.record for m in tape if m.scan.endswith(scan)]
        assert kept == wanted


def test_the_parts_of_a_flattened_frame_go_together() -> None:
    flat = [replace(r, parts=(part,)) for r in ONE for part in r.parts]

    def decoders():
        parts: list = []

        def decode(one):
            parts.extend(one)
            try:
                found = native_messages(parts)
            except Exception:  # noqa: BLE001
                return []
            parts.clear()
            return found

        return {"det": decode, "pos": native_messages}

    only_det = [r for r in flat if r.stream == "det"]
    cutter = Cutter(Cut(frames=(3, 5)))
    kept = list(cutter.pick(marked(only_det, decoders)))
    whole = [m for m in marked(kept, decoders) if m.kind == "frame"]
    assert [m.index for m in whole] == [3, 4]
    assert len(kept) == 2 + 2 * 3 + 2  # a start, two frames, an end: all their parts
