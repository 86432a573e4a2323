import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptystream.errors import ConfigError
from ptystream.tape import faults as module
from ptystream.tape.faults import Faults, FaultyTape
from ptystream.tape.format import Record

MS = 1_000_000


def tape(n: int = 1000) -> list[Record]:
    start = Record("det", (b"ptys1/det/start",), 0, 0)
    end = Record("det", (b"ptys1/det/end",), n * MS, 0)
    frames = [
        Record(
            ("det", "pos")[i % 2], (b"ptys1/x/frame", i.to_bytes(4) * 2, b""), i * MS, 0
        )
        for i in range(n)
    ]
    return [start, *frames, end]


def test_without_faults_nothing_changes() -> None:
    assert list(FaultyTape(tape(), Faults())) == tape()


def test_shares_are_kept_and_counted() -> None:
    faulty = FaultyTape(tape(), Faults(drop=0.1, repeat=0.05, corrupt=0.02))
    found = list(faulty)
    injected = faulty.injected
    assert 60 < injected.dropped < 140
    assert 25 < injected.repeated < 75
    assert 5 < injected.corrupted < 40
    assert len(found) == 1002 - injected.dropped + injected.repeated
    known = {r.parts for r in tape()}
    changed = [r for r in found if r.parts not in known]
    assert injected.corrupted <= len(changed) <= 2 * injected.corrupted
    assert [r.parts[0] for r in (found[0], found[-1])] == [
        b"ptys1/det/start",
        b"ptys1/det/end",
    ]


def test_a_corrupt_message_differs_by_one_bit() -> None:
    for was, now in zip(tape(), FaultyTape(tape(), Faults(corrupt=1)), strict=True):
        before, after = b"".join(was.parts), b"".join(now.parts)
        bits = sum((a ^ b).bit_count() for a, b in zip(before, after, strict=True))
        assert bits == (0 if before.endswith((b"/start", b"/end")) else 1)


@given(st.integers(0, 5), st.floats(0, 0.05), st.floats(0, 0.05))
def test_delays_lose_nothing_and_time_never_goes_back(
    seed: int, jitter_s: float, late_s: float
) -> None:
    wanted = tape(100)
    faults = Faults(jitter_s=jitter_s, late_s={"pos": late_s}, seed=seed)
    found = list(FaultyTape(wanted, faults))
    assert sorted(r.parts for r in found) == sorted(r.parts for r in wanted)
    assert [r.mono_ns for r in found] == sorted(r.mono_ns for r in found)
    due = {r.parts: r.mono_ns for r in wanted}
    for record in found:
        delay_ns = record.mono_ns - due[record.parts]
        least_ns = late_s * 1e9 * (record.stream == "pos")
        assert least_ns - 1 <= delay_ns <= least_ns + jitter_s * 1e9 + 1


def test_jitter_changes_the_order() -> None:
    found = list(FaultyTape(tape(), Faults(jitter_s=0.005)))
    assert [r.parts for r in found] != [r.parts for r in tape()]


def test_the_same_seed_gives_the_same_faults() -> None:
    faults = Faults(drop=0.2, repeat=0.2, corrupt=0.2, jitter_s=0.01, seed=3)
    faulty = FaultyTape(tape(), faults)
    assert list(faulty) == list(faulty) == list(FaultyTape(tape(), faults))


def test_what_is_held_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HELD_BYTES", 100)
    faulty = FaultyTape(tape(), Faults(late_s={"pos": 1e6}))
    found = list(faulty)
    assert len(found) == 1002
    assert faulty.injected.early > 400


@pytest.mark.parametrize(
    "faults",
    [
        Faults(drop=1.1),
        Faults(repeat=-0.1),
        Faults(corrupt=float("nan")),
        Faults(jitter_s=-1),
        Faults(late_s={"pos": float("inf")}),
    ],
)
def test_nonsense_is_refused(faults: Faults) -> None:
    with pytest.raises(ConfigError, match="faults"):
        FaultyTape([], faults)
