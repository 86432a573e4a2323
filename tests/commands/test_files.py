"""Commands that work on files, each in the test's own process."""

import json
from pathlib import Path

import numpy as np
import pytest

from ptystream.cli import main
from ptystream.presets import preset_names, read_preset
from ptystream.publish.files import read_result
from ptystream.sim.truth import Truth, write_truth
from ptystream.tape.cxi_write import write_cxi
from tests.recon.small_scan import SmallScan
from tests.service.exposures import GEOMETRY, PIXEL_M

QUICK = ("--quiet", "--set=engine.threads=1", "--set=engine.held_out=0.2")


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """A CXI file of a small scan with its true probe."""
    small = SmallScan()
    path = tmp_path / "small.cxi"
    probe = small.probe[None].astype(np.complex64)
    places_m = small.centres_px * PIXEL_M
    write_cxi(path, small.counts(1e5), places_m, GEOMETRY, illumination=probe)
    return path


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    small = SmallScan()
    path = tmp_path / "truth.h5"
    write_truth(
        path,
        Truth(
            small.object[None].astype(np.complex64),
            small.probe[None].astype(np.complex64),
            small.centres_px * PIXEL_M,
            (PIXEL_M, PIXEL_M),
            (0.0, 0.0),
        ),
    )
    return path


def said(capsys) -> dict:
    """Return the only line on standard output."""
    (line,) = capsys.readouterr().out.splitlines()
    return json.loads(line)


def reconstruct(scan: Path, out: Path, *flags: str, seconds: float = 0.5) -> int:
    words = [str(scan), f"--output={out}", f"--seconds={seconds}", *QUICK, *flags]
    return main(["reconstruct", *words])


def test_a_file_becomes_a_result_and_a_picture(scan, tmp_path, capsys):
    out = tmp_path / "new" / "result.h5"
    # Time is counted in steps: of half a second a busy machine leaves one.
    assert reconstruct(scan, out, "--set=engine.deterministic=true") == 0
    told = said(capsys)
    assert (told["result"], told["exposures"]) == (str(out), 36)
    assert told["held_out_error"] < 0.2 * told["flat_error"]
    assert Path(told["picture"]).read_bytes().startswith(b"\x89PNG")
    result = read_result(out)
    assert result.scan == "small"
    assert result.provenance["config"]["refine"]["max_s"] == 0.5


@pytest.mark.parametrize(
    "fields", [("multires", "pixels"), ("siren", "pixels"), ("pixels", "hashgrid")]
)
def test_any_field_will_do(scan, tmp_path, capsys, fields):
    flags = (f"--field={fields[0]}", f"--probe={fields[1]}")
    assert reconstruct(scan, tmp_path / "r.h5", *flags) == 0
    assert said(capsys)["steps"] > 0
    options = read_result(tmp_path / "r.h5").provenance["config"]
    assert (options["object"]["field"], options["probe"]["field"]) == fields


@pytest.mark.parametrize("recipe", preset_names("recipes"))
def test_a_paper_s_recipe_is_one_flag(scan, tmp_path, capsys, recipe):
    """Shrunk to a test's size; what the recipe says of the rest is in the result."""
    small = (
        "object.width=16",
        "object.slices=1",
        "probe.modes=1",
        "object.filters=2",
        "probe.filters=2",
        "hashgrid.levels=3",
        "hashgrid.table=256",
        "object.warmup_steps=2",
        "probe.pretrain_steps=1",
    )
    flags = (f"--recipe={recipe}", *(f"--set={key}" for key in small))
    out = tmp_path / "r.h5"
    assert reconstruct(scan, out, *flags) == 0
    told = said(capsys)
    assert told["steps"] > 2
    assert np.isfinite(read_result(out).object).all()
    config = read_result(out).provenance["config"]
    assert config["engine"]["adam"] == "published"
    assert config["publish"]["presets"] == [f"recipes/{recipe}"]
    assert (
        config["object"]["field"] == read_preset("recipes", recipe)["object"]["field"]
    )


def test_an_engine_s_own_settings_and_a_first_object(scan, tmp_path, capsys):
    """A classical warm start, handed to the live engine."""
    warm, out = tmp_path / "warm.h5", tmp_path / "r.h5"
    flags = ("--engine=rpie", "--set=classical.rpie.object_alpha=0.3")
    assert reconstruct(scan, warm, *flags, seconds=1.0) == 0
    found = said(capsys)
    config = read_result(warm).provenance["config"]
    assert config["classical"]["rpie"]["object_alpha"] == 0.3
    begin = (f"--set=first_object.file={warm}", f"--set=first_probe.file={warm}")
    assert reconstruct(scan, out, *begin, seconds=0.2) == 0
    assert said(capsys)["held_out_error"] < 2 * found["held_out_error"]


def test_halves_are_compared_with_each_other(scan, tmp_path, capsys):
    halves = [tmp_path / "even.h5", tmp_path / "odd.h5"]
    for path in halves:
        assert reconstruct(scan, path, f"--half={path.stem}") == 0
        assert said(capsys)["exposures"] == 18
    assert main(["score", "--half", *map(str, halves)]) == 0
    assert "half-bit resolution" in capsys.readouterr().out
    assert main(["score", "--half", "--json", *map(str, halves)]) == 0
    resolution_m = said(capsys)["frc"]["half_bit"]["resolution_m"]
    assert PIXEL_M <= resolution_m < 3 * PIXEL_M


def test_a_score_for_people_and_one_for_programs(scan, truth, tmp_path, capsys):
    out = tmp_path / "r.h5"
    assert reconstruct(scan, out) == 0
    capsys.readouterr()
    assert main(["score", str(out), str(truth)]) == 0
    table = capsys.readouterr().out
    for row in ("paper's alignment", "empty object", "SSIM", "FRC", "probe error"):
        assert row in table
    assert main(["score", str(out), str(truth), "--json"]) == 0
    score = said(capsys)
    better = score["aligned"]["psnr_phase_db"] - score["flat_aligned"]["psnr_phase_db"]
    assert better > 5
    assert f"{score['aligned']['psnr_phase_db']:.1f}" in table


def test_nobody_to_stream_a_file_to_is_a_failure(scan, capsys):
    where = ("--detector=tcp://127.0.0.1:0", "--positions=tcp://127.0.0.1:0")
    assert main(["replay", str(scan), *where, "--wait=0.2"]) == 1
    printed = capsys.readouterr()
    assert "nobody came in 0.2 s" in printed.err
    assert json.loads(printed.out).keys() == {"det", "pos"}


def test_results_of_other_places_cannot_be_scored(scan, truth, tmp_path, capsys):
    out = tmp_path / "r.h5"
    assert reconstruct(scan, out) == 0
    capsys.readouterr()
    moved = SmallScan()
    far = tmp_path / "far.h5"
    write_truth(
        far,
        Truth(
            moved.object[None].astype(np.complex64),
            moved.probe[None].astype(np.complex64),
            moved.centres_px * PIXEL_M + 1e-3,
            (PIXEL_M, PIXEL_M),
            (1e-3, 1e-3),
        ),
    )
    assert main(["score", str(out), str(far)]) == 1
    assert "covers 0 of" in capsys.readouterr().err
