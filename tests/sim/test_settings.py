import pytest
from pydantic import ValidationError

from ptystream.errors import ConfigError
from ptystream.sim.experiment import build
from ptystream.sim.settings import PRESETS, SimulateSettings, preset


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_can_be_built(name):
    quick = {"amplitude_picture": "star", "phase_picture": "star"}
    experiment = build(preset(name, {"sample": quick}))
    rows, columns = preset(name).scan.shape
    assert len(experiment.track.line) == rows * columns


def test_the_protocols_scans_have_the_protocols_size():
    sizes = {name: preset(name).scan.shape for name in ("dense", "half", "sparse")}
    assert sizes == {"dense": (60, 60), "half": (8, 8), "sparse": (6, 6)}


def test_the_demo_takes_half_a_minute():
    settings = preset("demo")
    rows, columns = settings.scan.shape
    seconds = rows * columns / settings.scan.rate_hz
    seconds += (rows - 1) * settings.scan.line_pause_s
    assert 25 <= seconds <= 30
    assert rows * columns == 2500


def test_changes_are_laid_over_a_preset():
    settings = preset("low-dose", {"scan": {"rate_hz": 7.0}, "seed": 9})
    assert settings.scan.rate_hz == 7
    assert settings.scan.shape == (20, 20)
    assert settings.optics.photons_per_frame == 1e4
    assert settings.seed == 9


@pytest.mark.parametrize(
    "changes",
    [
        {"scan": {"overlapp": 0.5}},
        {"scan": {"overlap": 1.0}},
        {"scan": 3},
        {"optics": {"stop_m": 1.0}},
        {"optics": {"mode_powers": ()}},
        {"optics": {"energy_ev": float("nan")}},
        {"detector": {"size_px": 33}},
        {"ending": "sudden"},
    ],
)
def test_refuses_what_makes_no_sense(changes):
    with pytest.raises(ConfigError, match="simulate"):
        preset("dense", changes)


def test_refuses_an_unknown_preset():
    with pytest.raises(ConfigError, match=r"'denser'.*dense, half"):
        preset("denser")


def test_is_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        preset("dense").seed = 3  # type: ignore[misc]


def test_every_setting_is_explained():
    schema = SimulateSettings.model_json_schema()
    groups = [schema, *schema["$defs"].values()]
    missing = [
        name
        for group in groups
        for name, field in group["properties"].items()
        if not {"description", "$ref"} & set(field)
    ]
    assert missing == []
