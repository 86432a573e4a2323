"""A result made again: the same to the bit, or what is in the way of it."""

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from ptystream.cli import main
from ptystream.config import load
from ptystream.publish.files import read_result
from ptystream.service.made_of import Job, files_of
from ptystream.tape.cxi_write import write_cxi
from tests.recon.small_scan import SmallScan
from tests.service.exposures import GEOMETRY, PIXEL_M


def reconstruct(scan: Path, out: Path, *flags: str) -> Path:
    quick = "--seconds=0.3", "--set=engine.held_out=0.2", "--set=refine.check_s=0.1"
    named = ["reconstruct", str(scan), f"--output={out}", "-q", *quick]
    assert main([*named, *flags]) == 0
    return out


@pytest.fixture(scope="module")
def scan(tmp_path_factory) -> Path:
    small, path = SmallScan(), tmp_path_factory.mktemp("data") / "small.cxi"
    places_m = small.centres_px * PIXEL_M
    probe = small.probe.astype(np.complex64)
    write_cxi(path, small.counts(1e5), places_m, GEOMETRY, illumination=probe)
    return path


@pytest.fixture(scope="module")
def made(scan: Path, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("made") / "first.h5"
    return reconstruct(scan, out, "--deterministic", "--field=pixels")


@pytest.fixture
def first(made: Path, tmp_path: Path) -> Path:
    """A result of each test's own."""
    return Path(shutil.copy(made, tmp_path))


def rerun(result: Path, capsys, *flags: str) -> tuple[int, dict]:
    capsys.readouterr()
    code = main(["rerun", str(result), "-q", *flags])
    return code, json.loads(capsys.readouterr().out)


def test_a_result_is_made_again_to_the_bit(first, scan, capsys, tmp_path):
    """Wherever its data lie by now."""
    moved = shutil.copy(scan, tmp_path / "other.cxi")
    code, said = rerun(first, capsys, f"--input={moved}")
    assert (code, said["same"], said["difference"]) == (0, True, 0.0)
    assert said["deterministic"]
    before, after = read_result(first), read_result(Path(said["result"]))
    assert Path(said["result"]) == tmp_path / "first_again.h5"
    np.testing.assert_array_equal(before.positions_m, after.positions_m)
    assert before.run != after.run
    sums = [list(r.provenance["input"]["sha256"].values()) for r in (before, after)]
    assert sums[0] == sums[1]


def test_so_are_half_a_scan_and_other_settings(scan, capsys, tmp_path):
    flags = "--deterministic", "--half=odd", "--field=smooth", "--set=probe.modes=2"
    code, said = rerun(reconstruct(scan, tmp_path / "half.h5", *flags), capsys)
    assert (code, said["same"]) == (0, True)


def test_what_is_not_the_same_is_told_and_fails(first, capsys):
    with h5py.File(first, "r+") as file:
        file["object"][0, 3, 3] *= 1.5
    code, said = rerun(first, capsys)
    assert (code, said["same"]) == (1, False)
    assert 0 < said["difference"] < 0.2


def test_by_the_clock_no_bit_is_promised(scan, capsys, tmp_path):
    first = reconstruct(scan, tmp_path / "first.h5", "--engine=epie", "--deterministic")
    code, said = rerun(first, capsys)
    assert (code, said["deterministic"]) == (0, False)
    before, after = said["held_out_error"]
    assert after < 3 * before


def test_data_that_were_changed_are_refused(first, scan, capsys, tmp_path):
    other = tmp_path / "other.cxi"
    other.write_bytes(scan.read_bytes() + b"x")
    assert main(["rerun", str(first), "-q", f"--input={other}"]) == 1
    assert f"{other}: SHA-256" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input": None}, "doesn't tell what it was made of"),
        ({"config": {"engine": {"batch": -1}}}, "settings are not those of ptystream"),
    ],
)
def test_a_result_that_cannot_be_made_again_says_why(first, capsys, change, message):
    with h5py.File(first, "r+") as file:
        told = json.loads(str(file.attrs["provenance"]))
        file.attrs["provenance"] = json.dumps({**told, **change})
    assert main(["rerun", str(first), "-q"]) == 1
    assert message in capsys.readouterr().err


def test_the_result_itself_is_not_written_over(first, capsys):
    assert main(["rerun", str(first), "-q", f"--output={first}"]) == 1
    assert "is to be made again" in capsys.readouterr().err


def test_every_file_that_decides_is_summed():
    flags = [
        "first_probe.file=/a/probe.h5",
        "detector.preprocess.dark=/a/dark.npy",
        "detector.preprocess.mask=/a/mask.h5:/entry/mask",
    ]
    files = files_of(Job(Path("/a/scan.cxi")), load(environment={}, flags=flags))
    names = ["scan.cxi", "mask.h5", "dark.npy", "probe.h5"]
    assert files == [Path("/a") / name for name in names]
