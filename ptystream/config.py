"""One frozen, closed tree of settings: TOML file, then environment, then flags."""

import json
import os
import tomllib
from collections.abc import Iterable, Mapping
from datetime import date, time
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt
from pydantic import BaseModel, ConfigDict, ValidationError

from ptystream.errors import ConfigError
from ptystream.recon.options import (
    EngineOptions,
    NuisanceOptions,
    ObjectOptions,
    PhysicsOptions,
    ProbeOptions,
    ReconOptions,
)

Seconds = Annotated[float, Gt(0)]
Count = Annotated[int, Gt(0)]
PREFIX = "PTYSTREAM_"


class Settings(BaseModel):
    """Frozen; an unknown key is an error, not a typo that runs."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True
    )


class DetectorSettings(Settings):
    """Where diffraction patterns come from."""

    endpoint: str = "ptys+sub://127.0.0.1:5601"
    """``<protocol>+<sub|pull>://HOST:PORT``."""
    ring_mib: Count = 256
    """Shared memory between receiver and service; when full, frames are dropped."""
    max_frame_mib: Count = 8
    """A larger pattern is refused before memory is taken for it."""
    crop: tuple[int, int, int, int] | None = None
    """Rows from, columns from, rows, columns of the pattern to keep; none: all."""


class PositionSettings(Settings):
    """Where encoder positions come from."""

    endpoint: str = "ptys+sub://127.0.0.1:5602"
    """``<protocol>+<sub|pull>://HOST:PORT``."""


class GeometrySettings(Settings):
    """Values that win over what the stream says; none: the stream's."""

    energy_ev: Annotated[float, Gt(0)] | None = None
    """Photon energy, in eV."""
    distance_m: Annotated[float, Gt(0)] | None = None
    """Sample to detector, in metres."""
    detector_pixel_m: Annotated[float, Gt(0)] | None = None
    """Pitch of the detector, in metres."""


class FirstProbeSettings(Settings):
    """Where the probe starts."""

    source: Literal["auto", "file", "optics", "stream", "pattern", "random"] = "auto"
    """``file``: another result's or CXI file's; ``optics``: those given here;
    ``stream``: the optics in the scan's metadata, or the input file's illumination;
    ``pattern``: the mean pattern; ``random``: as PtyINR begins, uniform in [0, 1];
    ``auto``: the first of these that there is."""
    file: str | None = None
    """A result or CXI file that holds a probe."""
    defocus_m: float | None = None
    """Replaces the defocus of the optics, in metres."""
    optics: dict[str, Any] | None = None
    """``{kind = "zone_plate", diameter_m, outer_zone_m, stop_m, defocus_m}``, or
    ``{kind = "laue_lenses", aperture_rad = [y, x], defocus_m = [y, x]}``, or
    ``{kind = "electron_aperture", semi_angle_rad, defocus_m, aberrations}``, the last
    rows of n, m, C_nm in metres and its angle in radians."""


class ScanSettings(Settings):
    """When a scan counts as over, and how long parts wait for each other."""

    idle_timeout_s: Seconds = 30.0
    """A scan that says nothing for so long ends as ``timed out``."""
    late_s: Seconds = 5.0
    """A frame waits so long for its position, a position for its frame."""
    waiting: Count = 8192
    """Frames that may wait; beyond it the oldest is dropped and counted."""
    backlog: Count = 4096
    """Exposures between ingest and engine; beyond it the oldest is dropped, counted."""
    max_object_mpx: Count = 64
    """Megapixels of object; an exposure so far off that more were needed is dropped,
    counted: an encoder's glitch. 64 take 1.8 GB."""


class RefineSettings(Settings):
    """What happens after the last frame."""

    max_s: Annotated[float, Ge(0)] = 30.0
    """Refine for at most so long."""
    check_s: Seconds = 0.5
    """Look at the held-out quality so often."""
    patience_s: Seconds = 2.0
    """Slow down, and at last stop, when quality has not improved for so long."""
    gain: Annotated[float, Gt(0)] = 0.001
    """The smallest share of the held-out error that counts as an improvement."""


class PublishSettings(Settings):
    """Where results and the service's state go; loopback unless told."""

    results: str = "results"
    """Folder of the final HDF5 files."""
    picture: bool = True
    """Draw a PNG beside each result."""
    every_s: Seconds = 0.5
    """Time between snapshots for preview, status and documents."""
    control: str = "tcp://127.0.0.1:5610"
    """Control ROUTER (JSON)."""
    status: str = "tcp://127.0.0.1:5611"
    """Status PUB (JSON)."""
    preview: str = "tcp://127.0.0.1:5612"
    """Preview PUB (msgpack header, raw images)."""
    metrics: str = "127.0.0.1:9610"
    """HTTP host and port of /metrics, /healthz and /readyz."""
    documents: str | None = None
    """Input of a 0MQ document proxy, ``127.0.0.1:5577``; none: no documents."""
    documents_prefix: str = "an"
    """Prefix of the derived run's documents."""


class Config(Settings):
    """Everything that a service or an offline run can be told."""

    detector: DetectorSettings = DetectorSettings()
    positions: PositionSettings = PositionSettings()
    geometry: GeometrySettings = GeometrySettings()
    first_probe: FirstProbeSettings = FirstProbeSettings()
    scan: ScanSettings = ScanSettings()
    refine: RefineSettings = RefineSettings()
    object: ObjectOptions = ObjectOptions()
    probe: ProbeOptions = ProbeOptions()
    engine: EngineOptions = EngineOptions()
    physics: PhysicsOptions = PhysicsOptions()
    nuisance: NuisanceOptions = NuisanceOptions()
    publish: PublishSettings = PublishSettings()

    def recon(self) -> ReconOptions:
        """Return what the engine is told."""
        return ReconOptions(
            self.object, self.probe, self.engine, self.physics, self.nuisance
        )


def load(
    path: Path | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    flags: Iterable[str] = (),
) -> Config:
    """Read the configuration.

    Args:
        path: a TOML file; None: defaults.
        environment: ``PTYSTREAM_ENGINE__BATCH=32`` sets ``engine.batch``; None: os's.
        flags: ``engine.batch=32``, each a dotted key and a TOML value; the last wins.

    Raises:
        ConfigError: the file can't be read, a key is unknown, a value out of range.
    """
    tree = _read(path) if path else {}
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
