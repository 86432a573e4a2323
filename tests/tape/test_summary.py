from pathlib import Path

from ptystream.tape.index import TapeIndex
from ptystream.tape.kinds import marked
from ptystream.tape.log import TapeReader, TapeWriter
from ptystream.tape.summary import scans, summary
from tests.tape.scan_records import records


def test_a_tape_in_numbers(tmp_path: Path) -> None:
    path = tmp_path / "a.tape"
    tape = [*records(20, "one"), *records(5, "two", at_ns=2 * 10**9)]
    taps = [{"stream": "det", "protocol": "dectris", "pattern": "pull"}]
    with TapeWriter(path, {"taps": taps, "note": "x"}) as writer:
        writer.append_batch(tape)
    with TapeReader(path) as reader:
        told = summary(reader.header, TapeIndex.read(reader))
    assert told["records"] == len(tape)
    assert told["bytes"] == path.stat().st_size
    assert told["header"]["note"] == "x"
    det = told["streams"]["det"]
    assert (det["protocol"], det["pattern"], det["records"]) == ("dectris", "pull", 29)
    assert det["longest_gap_s"] == 1.975
    assert told["seconds"] == 2.009
    assert "protocol" not in told["streams"]["pos"]
    assert told["streams"]["pos"]["parts_bytes"] == sum(
        len(p) for r in tape if r.stream == "pos" for p in r.parts
    )


def test_a_clock_that_goes_back_counts_as_no_time(tmp_path: Path) -> None:
    path = tmp_path / "a.tape"
    with TapeWriter(path, {}) as writer:
        writer.append_batch(records(5, at_ns=10**15) + records(5))
    with TapeReader(path) as reader:
        assert summary({}, TapeIndex.read(reader))["seconds"] < 0.1


def test_scans_by_stream() -> None:
    tape = [*records(20, "one"), *records(5, "two")]
    found = {(s["stream"], s["scan"]): s for s in scans(marked(tape))}
    assert list(found) == [
        ("det", "one"),
        ("pos", "one"),
        ("det", "two"),
        ("pos", "two"),
    ]
    assert found["det", "one"]["frames"] == 20
    assert found["pos", "one"]["samples"] == 2
    assert all(s["starts"] == s["ends"] == 1 for s in found.values())
