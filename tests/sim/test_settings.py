import numpy as np
import pytest
from pydantic import ValidationError

from ptystream.errors import ConfigError
from ptystream.sim.experiment import build
from ptystream.sim.settings import PRESETS, SimulateSettings, preset

STAR = {"amplitude_picture": "star", "phase_picture": "star"}


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_can_be_built(name):
    changes = {"scan": {"shape": (3, 4)}}
    if preset(name).sample.kind == "pictures":
        changes["sample"] = STAR
    experiment = build(preset(name, changes))
    assert len(experiment.track.line) == 12
    size = preset(name).detector.size_px
    assert next(experiment.frames(0)).shape == (size, size)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", [n for n in PRESETS if n.endswith("full")])
def test_so_can_those_of_the_papers_size(name):
    experiment = build(preset(name))
    assert len(experiment.track.line) >= 9000
    assert next(experiment.frames(0)).sum() > 0


def test_the_protocols_scans_have_the_protocols_size():
    sizes = {name: preset(name).scan.shape for name in ("dense", "half", "sparse")}
    assert sizes == {"dense": (60, 60), "half": (8, 8), "sparse": (6, 6)}


@pytest.mark.parametrize(
    ("name", "step", "canvas"),
    [("overlap-95", 3, 241), ("overlap-50", 32, 288), ("overlap-30", 45, 289)],
)
def test_paper_as_rasters_are_exact(name, step, canvas):
    settings = preset(name, {"sample": STAR})
    experiment = build(settings)
    truth, side = experiment.truth, settings.scan.shape[0]
    assert truth.object.shape == (1, canvas, canvas)
    corners = (experiment.positions_m(0) - truth.origin_m) / truth.pixel_m - 32
    line = step * np.arange(side)
    snaked = np.sort(corners.reshape(side, side, 2), axis=1)
    assert np.allclose(snaked[..., 0], line[:, None], atol=1e-6)
    assert np.allclose(snaked[..., 1], line[None], atol=1e-6)
    assert line[-1] + 64 == canvas  # the light ends where the object does


def test_paper_as_probe_is_five_pixels_wide():
    probe = build(preset("overlap-30", {"sample": STAR})).truth.probe[0]
    amplitude = np.abs(probe[32])
    edges = np.interp(amplitude.max() / 2, amplitude[32:40][::-1], np.arange(8)[::-1])
    assert 2 * edges == pytest.approx(5, abs=0.5)


def test_atoms_are_for_electrons():
    with pytest.raises(ConfigError, match=r"expected optics\.kind electrons"):
        preset("dense", {"sample": {"kind": "layers"}})


def test_a_particle_must_fit_its_slices():
    with pytest.raises(ConfigError, match=r"height_m \+ carbon_m"):
        preset("nanoparticle", {"sample": {"height_m": 3e-9}})


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
        {"sample": {"kind": "dust"}},
        {"sample": {"vacancies": 0.1}},
        {"optics": {"kind": "electrons", "energy_ev": 1e4}},
        {"detector": {"noise": "pink"}},
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
        for name, field in group.get("properties", {}).items()
        if not {"description", "$ref"} & set(field)
    ]
    assert missing == []
