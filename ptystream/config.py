"""One frozen, closed tree of settings: TOML file, then environment, then flags."""

import json
import os
import tomllib
from collections.abc import Iterable, Mapping
from datetime import date, time
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ptystream.errors import ConfigError
from ptystream.presets import merged
from ptystream.recon.classical.options import ClassicalOptions
from ptystream.recon.options import (
    EngineOptions,
    HashGridOptions,
    NuisanceOptions,
    ObjectOptions,
    PhysicsOptions,
    ProbeOptions,
    ReconOptions,
)
from ptystream.recon.options_health import HealthOptions
from ptystream.recon.options_quality import QualityOptions
from ptystream.recon.options_start import StartOptions, WarmOptions
from ptystream.settings import (
    CheckpointSettings,
    DetectorSettings,
    FirstObjectSettings,
    FirstProbeSettings,
    GeometrySettings,
    PositionSettings,
    PublishSettings,
    RefineSettings,
    ScanSettings,
    Settings,
)

PREFIX = "PTYSTREAM_"


class Config(Settings):
    """Everything that a service or an offline run can be told."""

    detector: DetectorSettings = DetectorSettings()
    positions: PositionSettings = PositionSettings()
    geometry: GeometrySettings = GeometrySettings()
    first_probe: FirstProbeSettings = FirstProbeSettings()
    first_object: FirstObjectSettings = FirstObjectSettings()
    scan: ScanSettings = ScanSettings()
    refine: RefineSettings = RefineSettings()
    object: ObjectOptions = ObjectOptions()
    probe: ProbeOptions = ProbeOptions()
    engine: EngineOptions = EngineOptions()
    physics: PhysicsOptions = PhysicsOptions()
    nuisance: NuisanceOptions = NuisanceOptions()
    hashgrid: HashGridOptions = HashGridOptions()
    quality: QualityOptions = QualityOptions()
    start: StartOptions = StartOptions()
    warm: WarmOptions = WarmOptions()
    health: HealthOptions = HealthOptions()
    classical: ClassicalOptions = ClassicalOptions()
    checkpoint: CheckpointSettings = CheckpointSettings()
    publish: PublishSettings = PublishSettings()

    def recon(self) -> ReconOptions:
        """Return what the engine is told."""
        return ReconOptions(
            self.object,
            self.probe,
            self.engine,
            self.physics,
            self.nuisance,
            self.hashgrid,
            self.quality,
            self.start,
            self.health,
        )


def load(
    path: Path | None = None,
    *,
    presets: Iterable[Mapping[str, Any]] = (),
    environment: Mapping[str, str] | None = None,
    flags: Iterable[str] = (),
) -> Config:
    """Read the configuration.

    Args:
        path: a TOML file; None: defaults.
        presets: settings beneath the file's (``read_preset``); the last wins.
        environment: ``PTYSTREAM_ENGINE__BATCH=32`` sets ``engine.batch``; None: os's.
        flags: ``engine.batch=32``, each a dotted key and a TOML value; the last wins.

    Raises:
        ConfigError: the file can't be read, a key is unknown, a value out of range.
    """
    tree: dict[str, Any] = {}
    for settings in (*presets, _read(path) if path else {}):
        tree = merged(tree, settings)
    variables = _own_variables() if environment is None else environment
    for name, value in sorted(variables.items()):
        _put(tree, name.removeprefix(PREFIX).lower().split("__"), value, name)
    set_flags(tree, flags)
    try:
        return Config.model_validate(tree)
    except ValidationError as e:
        raise ConfigError(_explain(e, path)) from e


def set_flags(tree: dict[str, Any], flags: Iterable[str]) -> None:
    """Set each ``a.b=VALUE`` in nested tables; VALUE is TOML, or else plain text.

    Raises:
        ConfigError: a flag without ``=``, or below a key that has a value.
    """
    for flag in flags:
        key, sign, value = flag.partition("=")
        if not sign:
            raise ConfigError(f"setting {flag!r}: expected KEY=VALUE")
        _put(tree, key.strip().split("."), value, f"--set {flag}")


def flag(key: str, value: str | float | None) -> list[str]:
    """Return the flag that sets a key to just this value; none for None."""
    return [] if value is None else [f"{key}={json.dumps(value, ensure_ascii=False)}"]


def schema() -> str:
    """Return the JSON schema of the configuration."""
    return json.dumps(Config.model_json_schema(), indent=2)


def _own_variables() -> dict[str, str]:
    """Return the environment's settings: those with a ``__`` between room and key."""
    return {
        name: value
        for name, value in os.environ.items()
        if name.startswith(PREFIX) and "__" in name
    }


def _read(path: Path) -> dict[str, Any]:
    """Parse a TOML file."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as e:
        raise ConfigError(f"{path}: {e}") from e


def _put(tree: dict[str, Any], keys: list[str], text: str, source: str) -> None:
    """Set one value; text that is no TOML value, or a date, is taken as a string."""
    try:
        value = tomllib.loads(f"v = {text}")["v"]
    except tomllib.TOMLDecodeError:
        value = text
    if isinstance(value, date | time):
        value = text
    for key in keys[:-1]:
        tree = tree.setdefault(key, {})
        if not isinstance(tree, dict):
            raise ConfigError(f"{source}: {key} is a value, not a section")
    tree[keys[-1]] = value


def _explain(error: ValidationError, path: Path | None) -> str:
    """Name each wrong setting, what it was and what was expected."""
    lines = [f"{path or 'settings'}: {error.error_count()} wrong"]
    for e in error.errors():
        key = ".".join(str(part) for part in e["loc"])
        lines.append(f"  {key}: {e['msg']} (given: {e['input']!r})")
    return "\n".join(lines)
