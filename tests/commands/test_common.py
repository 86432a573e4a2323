import argparse
import json
import os
import signal

import pytest

from ptystream.commands.common import (
    add_config,
    config_of,
    say_json,
    stopped_by_signals,
)
from ptystream.errors import ConfigError


def parsed(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_config(parser)
    return parser.parse_args(arguments)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_sets_the_event_however_often_it_comes(number):
    before = signal.getsignal(number)
    with stopped_by_signals() as stop:
        assert not stop.is_set()
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)
        assert stop.wait(5)
    assert signal.getsignal(number) is before


def test_handlers_are_put_back_after_an_error():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ConfigError), stopped_by_signals():
        raise ConfigError("wrong")
    assert signal.getsignal(signal.SIGTERM) is before


def test_set_wins_over_the_commands_own_flags_over_the_file(tmp_path):
    file = tmp_path / "c.toml"
    file.write_text("[engine]\nbatch = 8\nseed = 3\n[refine]\nmax_s = 9.0\n")
    args = parsed("--config", str(file), "--set", "engine.batch=32")
    named = {"engine.batch": 16, "engine.seed": 5, "object.field": None}
    config = config_of(args, named)
    assert (config.engine.batch, config.engine.seed) == (32, 5)
    assert (config.refine.max_s, config.object.field) == (9.0, "auto")


def test_a_line_of_json_is_printed_at_once(capfd):
    say_json({"a": 1, "b": [None, "x"]})
    assert json.loads(capfd.readouterr().out) == {"a": 1, "b": [None, "x"]}
