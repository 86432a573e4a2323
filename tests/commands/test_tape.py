"""``ptystream tape``, each action in the test's own process."""

import json
from pathlib import Path

import pytest

from ptystream.cli import main
from ptystream.tape.cxi import CxiScan
from ptystream.tape.index import index_path
from ptystream.tape.log import TapeReader, TapeWriter
from tests.tape.scan_records import records


@pytest.fixture
def tape(tmp_path: Path) -> Path:
    path = tmp_path / "a.tape"
    with TapeWriter(path, {}) as writer:
        writer.append_batch([*records(20, "one"), *records(30, "two", at_ns=10**9)])
    return path


def said(capsys) -> dict:
    (line,) = capsys.readouterr().out.splitlines()
    return json.loads(line)


def damage(tape: Path, which: int) -> int:
    with TapeReader(tape) as reader:
        offset = list(reader)[which].offset
    raw = bytearray(tape.read_bytes())
    raw[offset + 3] ^= 0xFF
    tape.write_bytes(raw)
    return offset


def test_info_tells_what_is_there_and_keeps_an_index(tape: Path, capsys) -> None:
    for _ in range(2):
        assert main(["tape", "info", str(tape)]) == 0
        told = said(capsys)
        assert told["records"] == 63
        assert told["streams"]["det"]["records"] == 54
        assert "scans" not in told
        assert index_path(tape).exists()
    assert main(["tape", "info", str(tape), "--scans"]) == 0
    frames = {s["scan"]: s["frames"] for s in said(capsys)["scans"] if s["frames"]}
    assert frames == {"one": 20, "two": 30}


def test_verify_is_1_and_names_the_place_when_a_byte_is_wrong(
    tape: Path, capsys
) -> None:
    assert main(["tape", "verify", str(tape)]) == 0
    assert said(capsys)["records"] == 63
    offset = damage(tape, 7)
    assert main(["tape", "verify", str(tape)]) == 1
    told = said(capsys)
    assert (told["records"], told["damaged"], told["offsets"]) == (62, True, [offset])


def test_verify_tells_a_torn_end(tape: Path, capsys) -> None:
    raw = tape.read_bytes()
    tape.write_bytes(raw[:-5])
    assert main(["tape", "verify", str(tape)]) == 1
    told = said(capsys)
    assert told["torn_at"] + told["torn_bytes"] == len(raw) - 5


def test_cut_makes_a_tape_that_says_what_it_is(tape: Path, tmp_path, capsys) -> None:
    out = tmp_path / "b.tape"
    words = ["tape", "cut", str(tape), "-o", str(out)]
    assert main([*words, "--scan=two", "--frames=5:9"]) == 0
    assert said(capsys)["records"] == 4 + 3 + 4
    with TapeReader(out) as reader:
        assert reader.header["cut"]["scan"] == "two"
        assert reader.header["cut_from"] == "a.tape"
        assert not reader.check()
    assert main([*words, "--scan=two"]) == 1  # never over a tape that is there
    assert "b.tape" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", ["--frames=5", "--frames=9:5", "--seconds=a:b"])
def test_a_wrong_range_is_explained(tape: Path, tmp_path, capsys, wrong) -> None:
    assert main(["tape", "cut", str(tape), "-o", str(tmp_path / "c"), wrong]) == 1
    assert "FROM" in capsys.readouterr().err
    assert not (tmp_path / "c").exists()


def test_a_scan_that_isn_t_there_leaves_no_tape(tape: Path, tmp_path, capsys) -> None:
    words = ["tape", "cut", str(tape), "-o", str(tmp_path / "c"), "--scan=three"]
    assert main(words) == 1
    assert "it holds one, two" in capsys.readouterr().err
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("follow", [[], ["--follow"]])
def test_export_makes_a_file_of_a_scan(tape, tmp_path, capsys, follow) -> None:
    out = tmp_path / "a.cxi"
    words = ["tape", "export", str(tape), "-o", str(out), "--scan=two", *follow]
    assert main(words) == 0
    told = said(capsys)
    assert (told["frames"], told["copied"], told["no_position"]) == (30, 30, 0)
    with CxiScan(out) as scan:
        assert len(scan) == 30


def test_export_takes_the_geometry_from_the_settings(tape, tmp_path, capsys) -> None:
    out = tmp_path / "a.cxi"
    words = ["tape", "export", str(tape), "-o", str(out)]
    assert main([*words, "--set=geometry.distance_m=7.5"]) == 0
    with CxiScan(out) as scan:
        assert scan.geometry.distance_m == 7.5


def test_what_is_no_tape_is_told(tmp_path: Path, capsys) -> None:
    path = tmp_path / "x.tape"
    path.write_bytes(b"something else, of some length")
    for words in (["info"], ["verify"], ["export", "-o", str(tmp_path / "o")]):
        assert main(["tape", words[0], str(path), *words[1:]]) == 1
        assert "not a tape" in capsys.readouterr().err
