"""The first probe: from what a file, the optics or the patterns themselves say."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Complex
from torch import Tensor

from ptystream.errors import ConfigError
from ptystream.physics.probes import ProbeGrid, from_pattern, with_modes, zone_plate

ZONE_PLATE = {"diameter_m", "outer_zone_m", "stop_m", "defocus_m"}


def from_optics(
    optics: Mapping[str, Any], grid: ProbeGrid, *, defocus_m: float | None = None
) -> Complex[Tensor, "h w"]:
    """Return the probe that a scan's metadata describes.

    Args:
        optics: ``kind`` ``zone_plate`` with ``diameter_m``, ``outer_zone_m``, and if
            there are any ``stop_m``, ``defocus_m``; all in metres.
        grid: the window.
        defocus_m: replaces the optics' own.

    Raises:
        ConfigError: the kind is unknown, or a value is missing or no number.
    """
    if optics.get("kind") != "zone_plate":
        raise ConfigError(f"optics of kind {optics.get('kind')!r}: expected zone_plate")
    try:
        values = {k: float(optics[k]) for k in ZONE_PLATE & optics.keys()}
        values |= {} if defocus_m is None else {"defocus_m": defocus_m}
        return zone_plate(grid, **values)
    except (TypeError, ValueError) as e:
        raise ConfigError(f"zone plate {dict(optics)}: {e}") from e


def from_mean_pattern(patterns: np.ndarray) -> Complex[Tensor, "h w"]:
    """Return the probe of patterns ``[n, h, w]``, as if all light were in focus."""
    return from_pattern(torch.from_numpy(patterns.astype(np.float64).mean(0)))


def with_as_many_modes(probe: Tensor, modes: int) -> Complex[Tensor, "m h w"]:
    """Return the probe with this many modes: the first ones, or weak new ones added."""
    if probe.ndim == 2:
        probe = probe[None]
    if len(probe) >= modes:
        return probe[:modes]
    return with_modes(probe[0], modes)
