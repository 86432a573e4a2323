"""Packaged settings: valid, beneath the user's own, and the papers' own numbers."""

import pytest

from ptystream.config import Config, load
from ptystream.errors import ConfigError
from ptystream.presets import merged, preset_names, read_preset

RECIPES = preset_names("recipes")


def recipe(name: str, *flags: str) -> Config:
    return load(environment={}, presets=[read_preset("recipes", name)], flags=flags)


def test_both_papers_have_recipes_by_the_text_and_by_the_code():
    assert {"ptyinr", "ptyinr-code", "dgp", "dgp-code", "dgp-multislice"} <= {*RECIPES}


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_a_valid_configuration(name):
    assert recipe(name) != Config()


def test_ptyinr_is_the_paper_s():
    c = recipe("ptyinr")
    assert (c.object.field, c.object.width, c.object.hidden) == ("siren", 512, 3)
    assert (c.object.omega0, c.object.omega_hidden) == (30, 30)
    assert (c.object.coordinates, c.object.flat) == ("unit", 0)
    h = c.hashgrid
    assert (h.levels, h.features, h.table) == (16, 2, 2**15)
    assert (h.base, h.growth, h.width) == (16, 1.5, 64)
    assert (c.probe.field, c.probe.normalise) == ("hashgrid", "maximum")
    assert (c.physics.probe_penalty, c.physics.probe_penalty_steps) == (1e-2, 50)
    assert 1e-5 <= c.engine.siren_rate <= 1e-4
    assert 1e-5 <= c.engine.probe_net_rate <= c.engine.siren_rate
    assert (c.engine.adam, c.engine.by_light) == ("published", False)
    assert c.first_probe.source == "random"
    assert c.physics.loss == "smooth_l1"


def test_dgp_is_the_paper_s():
    c = recipe("dgp")
    for part in (c.object, c.probe):
        assert (part.field, part.depth, part.filters) == ("unet", 3, 16)
        assert (part.noise, part.activation) == (0.025, "relu")
        assert (part.constraints, part.pretrain_steps) == ("forward", 50)
    assert 0 < c.object.warmup_steps < c.object.identical_steps
    assert (c.physics.priors, c.engine.pretrain_rate) == ("text", 1e-3)
    m = recipe("dgp-multislice")
    assert (m.object.slices, m.physics.slice_m, m.probe.modes) == (16, 1e-10, 6)
    assert (m.physics.kind, m.object.depth) == ("potential", 3)


def test_the_code_s_recipes_differ_where_the_code_does():
    c = recipe("ptyinr-code")
    assert (c.object.coordinates, c.object.scaled_bias) == ("signed", True)
    assert (c.object.absolute, c.probe.absolute) == (True, True)
    assert (c.probe.signed, c.probe.recentre) == (True, True)
    assert c.probe.pretrain_steps == 0
    assert c.object.width == recipe("ptyinr").object.width  # beneath
    d = recipe("dgp-code")
    assert (d.physics.priors, d.probe.orthogonal_by) == ("code", "gram_schmidt")
    assert (d.object.constraints, d.probe.constraints) == ("shown", "shown")


def test_file_and_flags_win_over_a_recipe(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text("[object]\nwidth = 96\nhidden = 2\n")
    presets = [read_preset("recipes", "ptyinr")]
    config = load(file, presets=presets, environment={}, flags=["object.hidden=1"])
    assert (config.object.width, config.object.hidden) == (96, 1)
    assert config.object.field == "siren"


def test_the_last_preset_wins_key_by_key():
    first, second = {"engine": {"batch": 8, "seed": 1}}, {"engine": {"batch": 9}}
    engine = load(environment={}, presets=[first, second]).engine
    assert (engine.batch, engine.seed) == (9, 1)
    assert first == {"engine": {"batch": 8, "seed": 1}}


def test_merging_shares_no_table_with_what_it_was_given():
    below, above = {"a": {"b": 1}}, {"a": {"c": {"d": 2}}, "e": 3}
    made = merged(merged({}, below), above)
    assert made == {"a": {"b": 1, "c": {"d": 2}}, "e": 3}
    made["a"]["c"]["d"] = made["a"]["b"] = 9
    assert (below, above) == ({"a": {"b": 1}}, {"a": {"c": {"d": 2}}, "e": 3})
    assert merged({"a": 1}, {"a": {"b": 2}}) == {"a": {"b": 2}}


def test_an_unknown_preset_is_named_with_those_that_are():
    with pytest.raises(ConfigError, match=r"'ptyinrr': expected one of .*ptyinr"):
        read_preset("recipes", "ptyinrr")
