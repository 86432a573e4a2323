from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptystream.errors import ConfigError
from ptystream.ingest.events import ScanClosed
from ptystream.service.recorded import RecordedScans
from ptystream.tape import fault_kinds
from ptystream.tape.faults import Faults, FaultyTape
from ptystream.tape.format import Record
from ptystream.tape.kinds import Kind, marked
from ptystream.wire.messages import Exposure
from tests.tape.scan_records import records

TAPE = records(200)
HEADER: dict[str, Any] = {}


def kinds(tape: list[Record]) -> list[tuple[str, Kind, int]]:
    return [(m.record.stream, m.kind, m.index) for m in marked(tape)]


def frames(tape: list[Record]) -> list[int]:
    return [index for _, kind, index in kinds(tape) if kind == "frame"]


def harmed(**faults: Any) -> tuple[list[Record], dict[str, int]]:
    tape = FaultyTape(TAPE, Faults(**faults))
    return list(tape), tape.injected


def test_without_faults_nothing_changes() -> None:
    assert harmed() == (TAPE, {"early": 0})


def test_messages_are_dropped_and_counted() -> None:
    found, injected = harmed(drop=0.1)
    assert 5 < injected["dropped"] < 45
    assert len(found) == len(TAPE) - injected["dropped"]


def test_messages_are_duplicated_and_counted() -> None:
    found, injected = harmed(duplicate=0.1)
    again = Counter(r.parts for r in found)
    assert sum(n == 2 for n in again.values()) == injected["duplicated"] > 5


def test_a_corrupt_message_differs_by_one_bit() -> None:
    found, injected = harmed(corrupt=1)
    for was, now in zip(TAPE, found, strict=True):
        before, after = b"".join(was.parts), b"".join(now.parts)
        bits = sum((a ^ b).bit_count() for a, b in zip(before, after, strict=True))
        spared = bytes(was.parts[0]).endswith((b"/start", b"/end"))
        assert bits == (0 if spared else 1)
    assert injected["corrupted"] == len(TAPE) - 4


def test_a_truncated_message_has_one_shorter_part() -> None:
    found, injected = harmed(truncate=0.5)
    changed = 0
    for was, now in zip(TAPE, found, strict=True):
        shorter = [
            (a, b) for a, b in zip(was.parts, now.parts, strict=True) if len(a) > len(b)
        ]
        assert all(bytes(a).startswith(bytes(b)) for a, b in shorter)
        assert len(shorter) <= 1
        changed += len(shorter)
    assert changed == injected["truncated"] > 50


def test_reordered_messages_are_all_there_and_not_far_away() -> None:
    found, injected = harmed(reorder=0.2)
    assert injected["reordered"] > 10
    order = frames(found)
    assert order != sorted(order)
    assert sorted(order) == list(range(200))
    assert max(abs(i - at) for at, i in enumerate(order)) <= 16
    assert kinds(found)[-1][:2] == ("det", "end")
    times = [r.mono_ns for r in found]
    assert times == sorted(times)


@given(st.integers(0, 5), st.floats(0, 0.05), st.floats(0, 0.05))
def test_delays_lose_nothing_and_time_never_goes_back(
    seed: int, jitter_s: float, late_s: float
) -> None:
    found, _ = harmed(jitter_s=jitter_s, late_s={"pos": late_s}, seed=seed)
    assert sorted(r.parts for r in found) == sorted(r.parts for r in TAPE)
    assert [r.mono_ns for r in found] == sorted(r.mono_ns for r in found)
    due = {r.parts: r.mono_ns for r in TAPE}
    for record in found:
        delay_ns = record.mono_ns - due[record.parts]
        least_ns = late_s * 1e9 * (record.stream == "pos")
        assert least_ns - 1 <= delay_ns <= least_ns + jitter_s * 1e9 + 1


def test_jitter_changes_the_order() -> None:
    assert frames(harmed(jitter_s=0.005)[0]) != list(range(200))


def test_positions_lag_by_frames() -> None:
    found, injected = harmed(position_lag=25)
    assert injected["lagged"] == 21
    assert sorted(r.parts for r in found) == sorted(r.parts for r in TAPE)
    seen = 0
    firsts = iter(range(0, 200, 10))
    for _, kind, _ in kinds(found):
        seen += kind == "frame"
        if kind == "samples":
            assert seen == min(next(firsts) + 25, 200)


@pytest.mark.parametrize(
    ("faults", "gone"),
    [
        ({"no_start": ["pos"]}, [("pos", "start")]),
        ({"no_end": ["det", "pos"]}, [("det", "end"), ("pos", "end")]),
    ],
)
def test_starts_and_ends_go_missing(faults: Any, gone: Any) -> None:
    found, injected = harmed(**faults)
    assert len(found) == len(TAPE) - len(gone)
    assert not {k[:2] for k in kinds(found)} & set(gone)
    assert sum(injected.values()) == len(gone)


def test_an_abort_leaves_out_frames_but_not_the_end() -> None:
    found, injected = harmed(abort_after=150)
    assert frames(found) == list(range(150))
    assert injected["aborted"] == 50
    assert kinds(found)[-1][:2] == ("det", "end")


def test_a_restart_sends_the_beginning_twice() -> None:
    found, injected = harmed(restart_after=30)
    assert frames(found) == [*range(30), *range(200)]
    assert [k for _, k, _ in kinds(found)].count("start") == 4
    assert injected["restarts"] == 1
    times = [r.mono_ns for r in found]
    assert times == sorted(times)


def test_flattened_parts_are_messages_that_can_be_lost_one_by_one() -> None:
    found, injected = harmed(flatten=True)
    assert [r.parts for r in found] == [(p,) for r in TAPE for p in r.parts]
    assert injected["flattened"] == len(TAPE)
    fewer, counts = harmed(flatten=True, drop=0.2)
    assert len(fewer) == len(found) - counts["dropped"] < len(found)


def test_a_plain_connection_loses_nothing() -> None:
    faults = Faults(drop=1, corrupt=1, reorder=1, truncate=1, duplicate=1)
    found = list(FaultyTape(TAPE, faults, solid={"pos"}))
    assert [r for r in found if r.stream == "pos"] == [
        r for r in TAPE if r.stream == "pos"
    ]
    assert frames(found) == []


EVERYTHING = Faults(
    drop=0.05,
    duplicate=0.05,
    reorder=0.05,
    truncate=0.02,
    corrupt=0.02,
    jitter_s=0.003,
    late_s={"pos": 0.02},
    position_lag=3,
    restart_after=20,
    seed=7,
)


def test_the_same_seed_gives_the_same_faults_and_another_others() -> None:
    faulty = FaultyTape(TAPE, EVERYTHING)
    first = list(faulty)
    counts = faulty.injected
    assert list(faulty) == first
    assert faulty.injected == counts
    assert list(FaultyTape(TAPE, replace(EVERYTHING, seed=8))) != first


def exposures(faults: Faults) -> list[tuple[int, tuple[float, float], bytes]]:
    scans = RecordedScans(
        FaultyTape(TAPE, faults),
        HEADER,
        as_frame=lambda frame, record: frame.decode(record.mono_ns / 1e9),
    )
    return [
        (e.frame.index, e.mean_m, e.frame.counts.tobytes())
        for e in scans
        if isinstance(e, Exposure)
    ]


def test_the_same_tape_and_seed_give_the_same_exposures_in_the_same_order() -> None:
    first = exposures(EVERYTHING)
    assert 100 < len(first) <= 200
    assert exposures(EVERYTHING) == first
    assert exposures(replace(EVERYTHING, seed=8)) != first
    assert {index: where for index, where, _ in first}.items() <= {
        index: where for index, where, _ in exposures(Faults())
    }.items()


def test_every_scan_still_closes_once() -> None:
    scans = RecordedScans(
        FaultyTape(TAPE, EVERYTHING),
        HEADER,
        as_frame=lambda frame, record: frame.decode(),
    )
    assert sum(isinstance(e, ScanClosed) for e in scans) in (1, 2)


def test_what_is_held_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fault_kinds, "HELD_BYTES", 1000)
    for faults in ({"late_s": {"pos": 1e6}}, {"position_lag": 1000}):
        found, injected = harmed(**faults)
        assert len(found) == len(TAPE)
        assert injected["early"] > 5


@pytest.mark.parametrize(
    "faults",
    [
        Faults(drop=1.1),
        Faults(duplicate=-0.1),
        Faults(corrupt=float("nan")),
        Faults(reorder=2),
        Faults(jitter_s=-1),
        Faults(late_s={"pos": float("inf")}),
        Faults(position_lag=-1),
        Faults(abort_after=-1),
    ],
)
def test_nonsense_is_refused(faults: Faults) -> None:
    with pytest.raises(ConfigError, match="faults"):
        FaultyTape([], faults)
