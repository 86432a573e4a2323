"""Whatever lies beside a tape, and however the tape grew: what its index says."""

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ptystream.tape.format import Record
from ptystream.tape.index import MAGIC, ROW, TapeIndex, index_path
from ptystream.tape.log import TapeReader, TapeWriter

records = st.lists(
    st.builds(
        Record,
        st.text(max_size=3),
        st.lists(st.binary(max_size=9), max_size=3).map(tuple),
        st.integers(0, 2**64 - 1),
        st.integers(0, 2**64 - 1),
    ),
    max_size=6,
)


def index(path: Path) -> TapeIndex:
    with TapeReader(path) as tape:
        return TapeIndex.read(tape)


def said(found: TapeIndex) -> list[tuple[str, int, int]]:
    rows = found.rows
    names = [found.streams[number] for number in rows["stream"].tolist()]
    places = rows["offset"].tolist(), rows["mono_ns"].tolist()
    return list(zip(names, *places, strict=True))


@given(st.lists(records, min_size=1, max_size=4))
def test_it_grows_with_its_tape(tmp_path_factory, batches):
    path = tmp_path_factory.mktemp("index") / "a.tape"
    for number, batch in enumerate(batches):
        with TapeWriter(path, {}, resume=number > 0) as tape:
            tape.append_batch(batch)
        with TapeReader(path) as tape:
            wanted = [(r.stream, r.offset, r.mono_ns) for r in tape]
        assert said(index(path)) == wanted
        assert said(index(path)) == wanted  # as it was kept


@given(st.binary(max_size=40), st.integers(0, 10_000), st.integers(0, 40))
def test_a_damaged_one_is_never_believed(tmp_path_factory, put, at, taken):
    path = tmp_path_factory.mktemp("index") / "a.tape"
    with TapeWriter(path, {}) as tape:
        tape.append_batch([Record(name, (b"x",), 1, 2) for name in ("a", "b", "a")])
    wanted = said(index(path))
    kept = index_path(path)
    good = kept.read_bytes()
    assert good.startswith(MAGIC)
    assert len(good) > 3 * ROW.itemsize
    at %= len(good)
    kept.write_bytes(good[:at] + put + good[at + taken :])
    found = index(path)
    assert said(found) == wanted
    assert kept.read_bytes() == good  # and made anew
    assert isinstance(found.rows, np.ndarray)
