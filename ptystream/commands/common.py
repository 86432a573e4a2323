"""What several commands share."""

import argparse
import json
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ptystream.config import Config, flag, load
from ptystream.presets import Kind, preset_names, read_preset


def add_config(parser: argparse.ArgumentParser) -> None:
    """Add ``--config`` and ``--set``."""
    parser.add_argument("--config", type=Path, metavar="FILE", help="a TOML file")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="one setting, such as engine.batch=32; wins over file and environment",
    )


def add_profile(parser: argparse.ArgumentParser) -> None:
    """Add ``--profile``, which ``config_of`` heeds."""
    parser.add_argument(
        "--profile",
        choices=preset_names("profiles"),
        help="a beamline's own settings, beneath yours",
    )


def config_of(
    args: argparse.Namespace,
    named: Mapping[str, str | float | None] | None = None,
) -> Config:
    """Return the configuration of presets, file, environment, own flags and ``--set``.

    ``named`` holds the values of the command's own flags by key; None: not given. A
    recipe lies above a profile.
    """
    asked: list[tuple[Kind, str]] = []
    if profile := getattr(args, "profile", None):
        asked.append(("profiles", profile))
    if recipe := getattr(args, "recipe", None):
        asked.append(("recipes", recipe))
    told = json.dumps([f"{kind}/{name}" for kind, name in asked])
    own = [text for key, value in (named or {}).items() for text in flag(key, value)]
    return load(
        args.config,
        presets=[read_preset(kind, name) for kind, name in asked],
        flags=[*([f"publish.presets={told}"] if asked else []), *own, *args.set],
    )


@contextmanager
def stopped_by_signals() -> Iterator[threading.Event]:
    """Yield an event that SIGINT and SIGTERM set, and put the handlers back."""
    stop = threading.Event()
    signals = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(s, lambda *_: stop.set()) for s in signals]
    try:
        yield stop
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)


def say_json(values: Mapping[str, Any]) -> None:
    """Print one line of JSON on standard output, at once."""
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()
