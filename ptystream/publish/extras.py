"""Packages that come with an extra: imported when a sink is made, not before."""

import importlib
from typing import Any

from ptystream.errors import ConfigError


def optional(module: str, extra: str) -> Any:
    """Import what an extra brings; ConfigError names the extra if it isn't there."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"{module} is not installed: pip install 'ptystream[{extra}]'"
        ) from error
