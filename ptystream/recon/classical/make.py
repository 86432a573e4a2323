"""From a name to an engine."""

from typing import Any, Literal

from ptystream.errors import ConfigError
from ptystream.recon.classical.ad import AD
from ptystream.recon.classical.apg import APG
from ptystream.recon.classical.engine import Engine
from ptystream.recon.classical.options import (
    AdOptions,
    ApgOptions,
    ClassicalOptions,
    DmOptions,
    EpieOptions,
    RaarOptions,
    RpieOptions,
    WaspOptions,
)
from ptystream.recon.classical.pie import EPIE, RPIE
from ptystream.recon.classical.problem import Problem
from ptystream.recon.classical.projections import DM, RAAR
from ptystream.recon.classical.wasp import WASP

Name = Literal["epie", "rpie", "dm", "raar", "wasp", "apg", "ad"]
"""The classical engines."""

_ENGINES: dict[str, tuple[Any, Any]] = {
    "epie": (EPIE, EpieOptions),
    "rpie": (RPIE, RpieOptions),
    "dm": (DM, DmOptions),
    "raar": (RAAR, RaarOptions),
    "wasp": (WASP, WaspOptions),
    "apg": (APG, ApgOptions),
    "ad": (AD, AdOptions),
}

NAMES: tuple[str, ...] = tuple(_ENGINES)
"""What ``make`` takes."""


def make_as_told(name: str, problem: Problem, options: ClassicalOptions) -> Engine:
    """Build an engine with its part of the options.

    Raises:
        ConfigError: there is no such engine.
    """
    _known(name)
    engine, _ = _ENGINES[name]
    return engine(problem, getattr(options, name))


def make(name: str, problem: Problem, **options: Any) -> Engine:
    """Build an engine; the options are those of its class in ``options``.

    Raises:
        ConfigError: there is no such engine, or it has no such option.
    """
    _known(name)
    engine, settings = _ENGINES[name]
    unknown = options.keys() - settings.__dataclass_fields__.keys()
    if unknown:
        known = ", ".join(settings.__dataclass_fields__)
        raise ConfigError(f"{name} has no {', '.join(sorted(unknown))}: only {known}")
    return engine(problem, settings(**options))


def _known(name: str) -> None:
    """Raise ConfigError unless there is an engine of that name."""
    if name not in _ENGINES:
        raise ConfigError(f"engine {name!r}: expected one of {', '.join(NAMES)}")
