"""Every wire: a file sent in it, recorded, sent again, recorded again, and joined."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from ptystream.cli import main
from ptystream.config import load as load_config
from ptystream.service.offline import load
from ptystream.tape.cxi_write import write_cxi
from ptystream.tape.log import TapeReader
from tests.tape.scan_records import GEOMETRY

N, SIDE = 40, 16
COUNTS = np.random.default_rng(5).poisson(3, (N, SIDE, SIDE)).astype(np.uint16)
PLACES_M = np.random.default_rng(6).normal(0, 1e-6, (N, 2))
AXES = [
    'positions.y={column="INENC1.VAL", scale_m=1.0}',
    'positions.x={column="INENC2.VAL", scale_m=1.0}',
    "positions.per_frame=1",
    "geometry.distance_m=1.0",
]


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scan") / "scan.cxi"
    write_cxi(path, COUNTS, PLACES_M, GEOMETRY)
    return path


@contextmanager
def replaying(file: Path, *flags: str) -> Iterator[tuple[dict[str, str], list[dict]]]:
    """Replay in a process; yield its addresses, and what it says in the end."""
    where = ("--detector=tcp://127.0.0.1:*", "--positions=tcp://127.0.0.1:*")
    words = [sys.executable, "-m", "ptystream.cli", "replay", str(file), *where, *flags]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            said: list[dict] = []
            yield json.loads(child.stdout.readline()), said
            said.append(json.loads(child.stdout.readline()))
            assert child.wait(20) == 0
        finally:
            child.kill()


def record(tape: Path, at: dict[str, str], det: str, pos: str) -> int:
    urls = {"det": det + at["det"][3:], "pos": pos + at["pos"][3:]}
    where = (f"--detector={urls['det']}", f"--positions={urls['pos']}")
    return main(
        [
            "record",
            "-o",
            str(tape),
            "--scans=1",
            "--idle=20",
            "--allow-pull",
            "-q",
            *where,
        ]
    )


def parts(tape: Path) -> dict[str, bytes]:
    """Return what was recorded of each stream, chunks of a connection joined."""
    found: dict[str, bytes] = {}
    with TapeReader(tape) as reader:
        for record in reader:
            text = b"|".join(map(bytes, record.parts))
            found[record.stream] = found.get(record.stream, b"") + text
        assert not reader.damage
    return found


WIRES = [
    (("ptys", "ptys+sub"), ("ptys", "ptys+sub")),
    (("dectris", "dectris+pull"), ("panda", "panda")),
    (("dectris2", "dectris2+pull"), ("panda-json", "panda-json+sub")),
    (("array", "array+sub"), ("panda", "panda")),
]


@pytest.mark.parametrize(("det", "pos"), WIRES)
def test_a_file_goes_through_every_wire_and_twice_through_a_tape(
    scan: Path, tmp_path: Path, det: tuple[str, str], pos: tuple[str, str]
) -> None:
    first, again = tmp_path / "first.tape", tmp_path / "again.tape"
    wires = (f"--as={det[0]}", f"--positions-as={pos[0]}", "--rate=400")
    with replaying(scan, *wires) as (at, said):
        assert record(first, at, det[1], pos[1]) == 0
    assert said[0]["dropped"] == 0
    with replaying(first) as (at, said):
        assert record(again, at, det[1], pos[1]) == 0
    assert parts(again) == parts(first)
    config = load_config(environment={}, flags=AXES)
    for tape in (first, again):
        got = load(tape, config=config).exposures
        assert sorted(e.frame.index for e in got) == list(range(N))
        for e in got:
            assert (e.frame.counts == COUNTS[e.frame.index]).all()
            assert e.mean_m == pytest.approx(tuple(PLACES_M[e.frame.index]))


def test_a_flattened_tape_is_read_as_the_proper_one(scan: Path, tmp_path: Path) -> None:
    tape = tmp_path / "flat.tape"
    wires = ("--as=dectris", "--rate=400", "--flatten", "--positions-as=panda-json")
    with replaying(scan, *wires) as (at, said):
        assert record(tape, at, "dectris+pull", "panda-json+sub") == 0
    assert said[0]["injected"]["flattened"] > N
    with TapeReader(tape) as reader:
        assert {len(r.parts) for r in reader} == {1}
    config = load_config(environment={}, flags=AXES)
    got = load(tape, config=config).exposures
    assert len(got) == N
    assert all((e.frame.counts == COUNTS[e.frame.index]).all() for e in got)


def test_pull_is_refused_unless_allowed(tmp_path: Path, capsys) -> None:
    words = ["record", "-o", str(tmp_path / "t"), "--detector=dectris+pull://h:1"]
    assert main(words) == 1
    assert "--allow-pull" in capsys.readouterr().err
    assert not (tmp_path / "t").exists()
