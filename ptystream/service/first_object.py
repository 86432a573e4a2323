"""The object that a scan begins with: another result's, laid where it belongs."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Complex, Float
from torch import Tensor

from ptystream.config import Config
from ptystream.errors import ConfigError
from ptystream.models.field import Box
from ptystream.publish.files import read_result

ALIKE = 1e-3
"""Relative difference of two pixels that counts as none: 1 px over 1,000."""


class Seen(NamedTuple):
    """The first probe, and the corners (y, x) of exposures in object pixels."""

    probe: Complex[Tensor, "m k k"]
    corners_px: Float[Tensor, "n 2"]


@dataclass(frozen=True, slots=True, eq=False)
class FirstObject:
    """An estimate ``[slices, h, w]``; lengths in metres, points (y, x)."""

    values: np.ndarray
    origin_m: tuple[float, float]
    pixel_m: tuple[float, float]
    path: Path

    def placed(
        self, pixel_m: tuple[float, float], slices: int, seen: Seen
    ) -> tuple[Box, Complex[Tensor, "s h w"]]:
        """Return where it lies in object pixels, and what it is there.

        Its amplitude is brought to what lets the exposures' light through: whoever made
        it may have given the rest to the probe.

        Raises:
            ConfigError: its pixel or its number of slices is another.
        """
        if not np.allclose(self.pixel_m, pixel_m, rtol=ALIKE, atol=0):
            raise ConfigError(
                f"{self.path}: object pixel of {self.pixel_m} m, expected {pixel_m}"
            )
        if len(self.values) != slices:
            raise ConfigError(
                f"{self.path}: {len(self.values)} slices, expected object.slices = "
                f"{slices}"
            )
        y, x = (round(o / p) for o, p in zip(self.origin_m, pixel_m, strict=True))
        values = torch.from_numpy(self.values.astype(np.complex64))
        box = Box(y, x, *values.shape[1:])
        passed = _transmission(box, values, seen)
        return box, values * passed ** (-0.5 / slices)


def first_object(config: Config) -> FirstObject | None:
    """Return the object of ``first_object.file``; None without one.

    Raises:
        FileFormatError: the file is no result or truth file.
    """
    if config.first_object.file is None:
        return None
    path = Path(config.first_object.file)
    found = read_result(path)
    return FirstObject(found.object, found.origin_m, found.pixel_m, path)


def _transmission(box: Box, values: Complex[Tensor, "s h w"], seen: Seen) -> float:
    """Return the share of the probe's light that passes, over the exposures inside.

    1 where none is, or none passes.
    """
    light = seen.probe.abs().square().sum(0)
    power, size = values.prod(0).abs().square(), len(light)
    passed = []
    for y, x in seen.corners_px.round().int().tolist():
        if box.holds(Box(y, x, size, size)):
            top, left = y - box.y, x - box.x
            patch = power[top : top + size, left : left + size]
            passed.append(float((light * patch).sum() / light.sum()))
    return float(np.mean(passed)) or 1.0 if passed else 1.0
