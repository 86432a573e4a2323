"""``ptystream simulate`` to files, each command in the test's own process."""

import json
from pathlib import Path

import numpy as np
import pytest

from ptystream.cli import main
from ptystream.publish.files import read_result
from ptystream.sim.experiment import simulate
from ptystream.sim.settings import preset
from ptystream.sim.truth import read_truth
from ptystream.tape.cxi import CxiScan

SMALL = {"scan": {"shape": (4, 4)}, "sample": {"slices": 8, "slice_m": 2e-10}}
FLAGS = (
    "--set=scan.shape=[4,4]",
    "--set=sample.slices=8",
    "--set=sample.slice_m=2e-10",
)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    cxi, truth = tmp_path / "new" / "scan.cxi", tmp_path / "truth.h5"
    words = ["--preset=bilayer", *FLAGS, f"--cxi={cxi}", f"--truth={truth}"]
    assert main(["simulate", "--quiet", *words]) == 0
    return cxi, truth


def test_a_scan_goes_to_a_file_as_it_would_be_streamed(capsys, files):
    cxi, _ = files
    (line,) = capsys.readouterr().out.splitlines()
    said = json.loads(line)
    assert (said["cxi"], said["frames"]) == (str(cxi), 16)
    assert said["meta"]["optics"]["kind"] == "electron_aperture"
    made = simulate(preset("bilayer", SMALL))
    with CxiScan(cxi) as scan:
        assert scan.geometry.wavelength_m == pytest.approx(made.geometry.wavelength_m)
        assert scan.geometry.distance_m == made.geometry.distance_m
        assert np.array_equal([f.counts for f in scan.frames()], made.frames)
        assert np.allclose(scan.positions_m, made.positions_m, atol=1e-15)


def test_its_truth_has_slices_and_can_be_scored(files, capsys):
    _, path = files
    truth = read_truth(path)
    assert truth.object.shape[0] == 8
    assert truth.slice_m == 2e-10
    assert len(truth.probe) == 6
    assert read_result(path).object.shape == truth.object.shape
    capsys.readouterr()
    assert main(["score", str(path), str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["probe_error"] == pytest.approx(0, abs=1e-3)
    assert found["aligned"]["ssim_phase"] == pytest.approx(1)


def test_a_setting_of_another_specimen_is_refused(tmp_path, capsys):
    words = ["--preset=bilayer", "--set=sample.diameter_m=1e-9"]
    assert main(["simulate", *words, f"--cxi={tmp_path / 'a.cxi'}"]) == 1
    assert "diameter_m" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
