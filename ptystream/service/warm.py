"""What a scan leaves to the next of the same geometry: its probe, its positions' scale.

The photons to a frame are not handed on: the first frames tell them, and the beam of
the last scan may have been another.
"""

from dataclasses import dataclass

import numpy as np
import torch

from ptystream.recon.options_start import WarmOptions
from ptystream.recon.reconstruction import Reconstruction
from ptystream.recon.setting import FirstProbe
from ptystream.recon.snapshot import Snapshot
from ptystream.wire.messages import Geometry

KEPT = 8
"""Geometries remembered; the one that was not seen for longest goes."""
ALIKE = 1e-3
"""Relative difference of two geometries that counts as none. Over an absorption edge
the energy changes by less from point to point."""


@dataclass(frozen=True, slots=True, eq=False)
class Left:
    """What is remembered of one geometry: shape, then lengths in metres."""

    geometry: np.ndarray
    probe: FirstProbe


class Warm:
    """Remembers the last scan of each geometry. ``forget`` is for any thread."""

    def __init__(self, options: WarmOptions) -> None:
        self._options = options
        self._left: tuple[Left, ...] = ()

    def keep(
        self,
        run: str,
        geometry: Geometry,
        recon: Reconstruction,
        snapshot: Snapshot,
    ) -> None:
        """Remember what a scan has learned; nothing if its probe never was."""
        quality = snapshot.quality
        learned = quality.probe_released and not recon.options.probe.known
        if not (learned and quality.held_out_error < quality.flat_error):
            return
        nuisance = recon.nuisance
        affine = None
        if self._options.positions and nuisance is not None:
            affine = nuisance.positions.affine.detach().clone()
        waves = torch.from_numpy(snapshot.probe.copy())
        size = recon.setting.size
        key, probe = _key(geometry, (size, size)), f"last scan {run}"
        others = [left for left in self._left if not _alike(left.geometry, key)]
        new = Left(key, FirstProbe(waves, probe, affine))
        self._left = (*others, new)[-KEPT:]

    def offer(self, geometry: Geometry, shape: tuple[int, int]) -> FirstProbe | None:
        """Return what the last scan of this geometry left, if anything."""
        if not self._options.probe:
            return None
        key = _key(geometry, shape)
        for left in self._left:
            if _alike(left.geometry, key):
                return left.probe
        return None

    def forget(self) -> None:
        """Begin the next scan of every geometry as if it were the first."""
        self._left = ()


def _key(geometry: Geometry, shape: tuple[int, int]) -> np.ndarray:
    """Return what must be alike for a probe to be of use."""
    lengths = geometry.wavelength_m, geometry.distance_m, *geometry.detector_pixel_m
    return np.array([*shape, *lengths])


def _alike(one: np.ndarray, other: np.ndarray) -> bool:
    """Tell whether two geometries are the same."""
    return np.allclose(one, other, rtol=ALIKE, atol=0)
