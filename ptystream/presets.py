"""Packaged settings: recipes of the papers, profiles of beamlines; beneath the user's.

Each is a TOML file of the configuration's own keys, ``presets_data/KIND/NAME.toml``, of
which the first comment says where it is from. ``beneath`` names another of its kind
that it changes.
"""

import tomllib
from collections.abc import Mapping
from importlib.resources import files
from typing import Any, Literal

from ptystream.errors import ConfigError

Kind = Literal["recipes", "profiles"]


def preset_names(kind: Kind) -> tuple[str, ...]:
    """Return the names of a kind, sorted."""
    found = files("ptystream").joinpath("presets_data", kind).iterdir()
    names = (entry.name for entry in found)
    return tuple(sorted(n.removesuffix(".toml") for n in names if n.endswith(".toml")))


def read_preset(kind: Kind, name: str) -> dict[str, Any]:
    """Return a preset's nested settings.

    Raises:
        ConfigError: there is no such preset.
    """
    if name not in preset_names(kind):
        known = ", ".join(preset_names(kind)) or "none"
        raise ConfigError(f"{kind} {name!r}: expected one of {known}")
    found = files("ptystream").joinpath("presets_data", kind, f"{name}.toml")
    tree = tomllib.loads(found.read_text(encoding="utf-8"))
    beneath = tree.pop("beneath", None)
    return tree if beneath is None else merged(read_preset(kind, beneath), tree)


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return both trees as one, key by key; where both have a value, ``above`` wins.

    The result shares no table with ``above``.
    """
    tree = dict(below)
    for key, value in above.items():
        old = tree.get(key)
        if isinstance(value, Mapping):
            value = merged(old if isinstance(old, Mapping) else {}, value)
        tree[key] = value
    return tree
