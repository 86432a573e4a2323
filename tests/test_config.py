import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptystream.config import Config, flag, load, schema, set_flags
from ptystream.errors import ConfigError


def loaded(*flags: str, **environment: str) -> Config:
    return load(environment=environment, flags=flags)


def test_defaults_need_nothing():
    assert loaded() == Config()


def test_file_then_environment_then_flags(tmp_path):
    file = tmp_path / "beamline.toml"
    file.write_text("[engine]\nbatch = 16\nseed = 1\nstore = 100\n")
    config = load(
        file,
        environment={"PTYSTREAM_ENGINE__BATCH": "32", "PTYSTREAM_ENGINE__SEED": "2"},
        flags=["engine.batch=64", "engine.batch=128"],
    )
    engine = config.engine
    assert (engine.store, engine.seed, engine.batch) == (100, 2, 128)


def test_the_environment_is_the_processes_own_unless_told(monkeypatch):
    monkeypatch.setenv("PTYSTREAM_ENGINE__BATCH", "48")
    monkeypatch.setenv("PTYSTREAM_VENV", "/somewhere")  # the tools', not a setting
    assert load().engine.batch == 48
    assert load(environment={}).engine.batch == Config().engine.batch


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("engine.bach=3", "engine.bach"),
        ("motor.speed=3", "motor"),
        ("engine.batch=0", "greater than 0"),
        ("engine.batch=many", "engine.batch"),
        ("object.field=wavelets", "'pixels'"),
        ("engine.batch", "expected KEY=VALUE"),
    ],
)
def test_what_is_wrong_is_named(flag, said):
    with pytest.raises(ConfigError, match=said):
        loaded(flag)


def test_every_wrong_setting_is_named_at_once():
    with pytest.raises(ConfigError) as error:
        loaded("engine.batch=0", "refine.max_s=-1", "probe.colour=red")
    for name in ("engine.batch", "refine.max_s", "probe.colour", "3 wrong"):
        assert name in str(error.value)


def test_a_variable_that_is_wrong_is_named():
    with pytest.raises(ConfigError, match="engine"):
        loaded(PTYSTREAM_ENGINE__WARP="9")


def test_a_value_is_no_section():
    with pytest.raises(ConfigError, match="is a value"):
        loaded("engine=3", "engine.batch=3")


@pytest.mark.parametrize("text", ["[engine", "engine = ", b"\xff\xfe"])
def test_a_file_that_is_no_toml_is_named(tmp_path, text):
    file = tmp_path / "bad.toml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError, match=r"bad\.toml"):
        load(file, environment={})


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.toml"):
        load(tmp_path / "none.toml", environment={})


@pytest.mark.parametrize("folder", ["2024-11-22", "12:30:00", "scans/today", "a b"])
def test_plain_text_needs_no_quotes(folder):
    assert loaded(f"publish.results={folder}").publish.results == folder


@given(st.text(st.characters(exclude_categories=("Cc", "Cs")), max_size=30))
def test_a_commands_own_flag_is_taken_as_it_is(folder):
    (text,) = flag("publish.results", folder)
    assert loaded(text).publish.results == folder


def test_a_commands_own_flag_may_be_missing():
    assert flag("refine.max_s", None) == []
    assert loaded(*flag("refine.max_s", 2.5)).refine.max_s == 2.5


def test_flags_make_nested_tables():
    tree: dict = {"scan": {"rate_hz": 1}}
    set_flags(tree, ["scan.shape=[3, 4]", "name=x"])
    assert tree == {"scan": {"rate_hz": 1, "shape": [3, 4]}, "name": "x"}


def test_config_is_frozen():
    with pytest.raises(ValueError, match="frozen"):
        loaded().refine.max_s = 3  # type: ignore[misc]


def test_the_schema_knows_and_explains_every_setting():
    known = json.loads(schema())
    assert known["additionalProperties"] is False
    for name in known["properties"]:
        room = known["$defs"][type(getattr(Config(), name)).__name__]
        assert room["additionalProperties"] is False, name
        for key, value in room["properties"].items():
            assert value.get("description"), f"{name}.{key}"
