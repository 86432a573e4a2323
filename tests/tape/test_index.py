from pathlib import Path

import numpy as np
import pytest

from ptystream.tape.index import TapeIndex, index_path
from ptystream.tape.log import TapeReader, TapeWriter
from tests.tape.scan_records import records


def write(path: Path, n: int = 50) -> Path:
    with TapeWriter(path, {}) as writer:
        writer.append_batch(records(n))
    return path


def read(path: Path) -> TapeIndex:
    with TapeReader(path) as tape:
        return TapeIndex.read(tape)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "a.tape")


def test_it_says_what_the_tape_says(path: Path) -> None:
    index = read(path)
    with TapeReader(path) as tape:
        found = list(tape)
    assert [int(v) for v in index.rows["offset"]] == [r.offset for r in found]
    assert [int(v) for v in index.rows["mono_ns"]] == [r.mono_ns for r in found]
    assert int(index.rows["end"][-1]) == path.stat().st_size
    assert len(index.of("pos")) == sum(r.stream == "pos" for r in found)
    assert len(index.of("none")) == 0
    assert not index.damage


def test_a_kept_index_is_used_and_goes_on_where_the_tape_grew(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = read(path)
    looked: list[int] = []
    glances = TapeReader.glances

    def watched(self: TapeReader, at: int = 0):
        looked.append(at)
        return glances(self, at)

    monkeypatch.setattr(TapeReader, "glances", watched)
    assert (read(path).rows == first.rows).all()
    assert min(looked) == first.rows["offset"][-1]  # nothing before the last record
    with TapeWriter(path, {}, resume=True) as writer:
        writer.append_batch(records(5, "more"))
    grown = read(path)
    assert min(looked) == first.rows["offset"][-1]
    assert (grown.rows[: len(first.rows)] == first.rows).all()
    assert len(grown.rows) == len(first.rows) + len(records(5))
    assert (read(path).rows == grown.rows).all()


@pytest.mark.parametrize("damage", ["garbage", "empty", "other tape", "cut tape"])
def test_a_wrong_index_is_made_anew(path: Path, tmp_path: Path, damage: str) -> None:
    right = read(path)
    kept = index_path(path)
    if damage == "garbage":
        kept.write_bytes(b"PK\x03\x04 not a zip")
    elif damage == "empty":
        kept.write_bytes(b"")
    elif damage == "other tape":
        other = write(tmp_path / "other.tape", 7)
        read(other)
        kept.write_bytes(index_path(other).read_bytes())
    else:
        cut = int(right.rows["offset"][-3])
        with path.open("r+b") as file:
            file.truncate(cut)
        right = TapeIndex(right.rows[:-3], right.streams, right.damage)
    assert (read(path).rows == right.rows).all()


def test_a_damaged_tape_has_no_index_and_tells_each_time(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    with TapeReader(path) as tape:
        third = list(tape)[3]
    raw[third.offset + 1] ^= 1
    path.write_bytes(raw)
    for _ in range(2):
        index = read(path)
        assert index.damage.offsets == (third.offset,)
        assert third.offset not in index.rows["offset"]
    assert not index_path(path).exists()


def test_where_nothing_can_be_kept_it_is_made_all_the_same(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "ptystream.tape.index.index_path", lambda _: Path("/no/such/folder/a.index")
    )
    assert len(read(path).rows) == len(records(50))


def test_an_empty_tape(tmp_path: Path) -> None:
    with TapeWriter(tmp_path / "e.tape", {}):
        pass
    index = read(tmp_path / "e.tape")
    assert (len(index.rows), index.streams) == (0, ())
    assert isinstance(index.rows, np.ndarray)
