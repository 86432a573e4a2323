"""Every setting of a reconstruction is reached, bounded and explained."""

import json

import pytest

from ptystream.config import load, schema
from ptystream.errors import ConfigError

SECTIONS = {
    "ObjectOptions",
    "ProbeOptions",
    "EngineOptions",
    "PhysicsOptions",
    "NuisanceOptions",
    "HashGridOptions",
    "FirstObjectSettings",
    "RefineSettings",
    "EpieOptions",
    "RpieOptions",
    "DmOptions",
    "RaarOptions",
    "WaspOptions",
    "ApgOptions",
    "AdOptions",
}


def test_every_setting_is_explained():
    for name in SECTIONS:
        for key, described in json.loads(schema())["$defs"][name]["properties"].items():
            assert described.get("description"), f"{name}.{key}"


@pytest.mark.parametrize(
    ("flag", "section", "key", "value"),
    [
        ("object.field=unet", "object", "field", "unet"),
        ("object.warmup_steps=0", "object", "warmup_steps", 0),
        ("probe.normalise=maximum", "probe", "normalise", "maximum"),
        ("physics.model=near", "physics", "model", "near"),
        ("physics.slice_m=1e-6", "physics", "slice_m", 1e-6),
        ("nuisance.positions=both", "nuisance", "positions", "both"),
        ("nuisance.scale_rate=0.1", "nuisance", "scale_rate", 0.1),
        ("hashgrid.growth=2.0", "hashgrid", "growth", 2.0),
        ("engine.phase_rate=0.5", "engine", "phase_rate", 0.5),
    ],
)
def test_settings_reach_the_reconstruction(flag, section, key, value):
    options = load(environment={}, flags=[flag]).recon()
    assert getattr(getattr(options, section), key) == value


@pytest.mark.parametrize(
    "flag",
    [
        "physics.fly_points=0",
        "physics.slice_m=0",
        "physics.magnification=0.5",
        "physics.tv_xy=-1",
        "physics.loss=huber",
        "nuisance.position_rate_px=0",
        "object.depth=9",
        "object.coordinates=polar",
        "probe.activation=swish",
        "hashgrid.growth=1",
        "physics.background_start=1.5",
        "engine.adam=sgd",
        "classical.raar.beta=2",
        "classical.epie.object_step=-1",
        "classical.ad.batch=0",
        "physics.fly=3",
    ],
)
def test_what_makes_no_sense_is_refused(flag):
    with pytest.raises(ConfigError, match=flag.split("=")[0].split(".")[1]):
        load(environment={}, flags=[flag])
