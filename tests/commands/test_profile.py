"""A beamline's packaged settings, beneath the user's own."""

import json

import pytest

from ptystream.cli import main
from ptystream.config import Config, load
from ptystream.ingest.endpoint import parse_endpoint
from ptystream.presets import preset_names, read_preset


@pytest.mark.parametrize("name", preset_names("profiles"))
def test_every_profile_is_a_valid_configuration_of_wires_that_there_are(name):
    config = load(environment={}, presets=[read_preset("profiles", name)])
    assert config != Config()
    for url in (config.detector.endpoint, config.positions.endpoint):
        assert str(parse_endpoint(url)) == url


def test_check_config_prints_what_a_profile_amounts_to(capsys, tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text("[positions]\nper_frame = 5\n")
    line = ["--profile", "hxn", "--config", str(file), "--set", "detector.ring_mib=64"]
    assert main(["check-config", *line]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["detector"]["endpoint"].endswith(":5559")
    assert printed["detector"]["curve"] == "env"
    assert printed["positions"]["y"]["column"] == "INENC3.VAL"
    assert printed["positions"]["per_frame"] == 5
    assert printed["publish"]["presets"] == ["profiles/hxn"]
    assert printed["detector"]["ring_mib"] == 64
    energy = printed["geometry"]["baseline"]["energy_ev"]
    assert (energy["keys"], energy["spacing_m"]) == (["dcm_th"], 3.1355893e-10)


@pytest.mark.parametrize("command", ["serve", "check-config"])
def test_an_unknown_profile_is_wrong_usage(command, capsys):
    with pytest.raises(SystemExit) as end:
        main([command, "--profile", "moon"])
    assert end.value.code == 2
    assert "hxn" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("preprocess.dark=none.npy", "detector.preprocess.dark 'none.npy'"),
        ("preprocess.size=[4000, 4000]", "more than max_frame_mib"),
        ("preprocess={size=[8, 8], binning=9}", "smaller than its binning"),
        ("preprocess.quarter_turns=4", "quarter_turns"),
        ("preprocess.mirror=true", "mirror"),
    ],
)
def test_pre_processing_that_cannot_be_is_told_by_check_config(setting, said, capsys):
    assert main(["check-config", "--set", f"detector.{setting}"]) == 1
    assert said in capsys.readouterr().err


def test_two_windows_are_one_too_many(capsys):
    windows = ["detector.crop=[0, 0, 8, 8]", "detector.preprocess.size=[8, 8]"]
    line = [text for window in windows for text in ("--set", window)]
    assert main(["check-config", *line]) == 1
    assert "expected one of them" in capsys.readouterr().err
