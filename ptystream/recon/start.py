"""The first probe: from what a file, the optics or the patterns themselves say."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Complex
from torch import Tensor

from ptystream.errors import ConfigError
from ptystream.physics.probes import (
    Aberration,
    ProbeGrid,
    electron_aperture,
    from_pattern,
    laue_lenses,
    with_modes,
    zone_plate,
)

OPTICS = ("zone_plate", "laue_lenses", "electron_aperture")
"""Kinds of optics that a probe can be modelled from."""


def from_optics(
    optics: Mapping[str, Any], grid: ProbeGrid, *, defocus_m: float | None = None
) -> Complex[Tensor, "h w"]:
    """Return the probe that a scan's metadata, or the configuration, describes.

    Args:
        optics: ``kind`` and its values, lengths in metres, angles in radians:
            ``zone_plate`` with ``diameter_m``, ``outer_zone_m``, ``stop_m``,
            ``defocus_m``; ``laue_lenses`` with ``aperture_rad`` (y, x) and
            ``defocus_m`` (y, x); ``electron_aperture`` with ``semi_angle_rad``,
            ``defocus_m`` and ``aberrations``, rows of n, m, C_nm and its angle.
        grid: the window.
        defocus_m: replaces the optics' own.

    Raises:
        ConfigError: the kind is unknown, or a value is missing or no number.
    """
    kinds = dict(zip(OPTICS, (_zone_plate, _laue_lenses, _electrons), strict=True))
    values = dict(optics)
    kind = values.pop("kind", None)
    if kind not in kinds:
        raise ConfigError(f"optics of kind {kind!r}: expected {' or '.join(OPTICS)}")
    if defocus_m is not None:
        values["defocus_m"] = defocus_m
    try:
        return kinds[kind](values, grid)
    except KeyError as e:
        raise ConfigError(f"{kind} {values}: {e} is missing") from e
    except (TypeError, ValueError) as e:
        raise ConfigError(f"{kind} {values}: {e}") from e


def _zone_plate(values: dict[str, Any], grid: ProbeGrid) -> Complex[Tensor, "h w"]:
    """Return the probe of a zone plate with a central stop."""
    return zone_plate(
        grid,
        diameter_m=float(values["diameter_m"]),
        outer_zone_m=float(values["outer_zone_m"]),
        stop_m=float(values.get("stop_m", 0.0)),
        defocus_m=float(values.get("defocus_m", 0.0)),
    )


def _laue_lenses(values: dict[str, Any], grid: ProbeGrid) -> Complex[Tensor, "h w"]:
    """Return the probe of crossed multilayer Laue lenses."""
    aperture, defocus = _pair(values["aperture_rad"]), values.get("defocus_m", 0.0)
    return laue_lenses(grid, aperture=aperture, defocus_m=_pair(defocus))


def _electrons(values: dict[str, Any], grid: ProbeGrid) -> Complex[Tensor, "h w"]:
    """Return the probe of an electron aperture with aberrations."""
    rows = values.get("aberrations", [])
    return electron_aperture(
        grid,
        semi_angle_rad=float(values["semi_angle_rad"]),
        defocus_m=float(values.get("defocus_m", 0.0)),
        aberrations=[
            Aberration(int(r[0]), int(r[1]), *map(float, r[2:])) for r in rows
        ],
    )


def _pair(value: Any) -> tuple[float, float]:
    """Return (y, x), the same both ways if there is one number."""
    y, x = value if isinstance(value, list | tuple) else (value, value)
    return float(y), float(x)


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
