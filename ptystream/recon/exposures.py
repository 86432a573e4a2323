"""The exposures a reconstruction learns from: what was measured, and where."""

import math
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ptystream.buffers.store import FrameStore
from ptystream.models.field import Box
from ptystream.recon.engine import Batch, reached
from ptystream.recon.nuisance import Nuisance
from ptystream.recon.options import ReconOptions
from ptystream.recon.setting import Setting

FIRST = 8
"""Exposures needed before the scale of the data is known and learning begins."""
MEASURED = 64
"""Held-out exposures looked at each time the quality is measured."""
ON_GRID_PX = 1e-3
"""Positions nearer to the pixel grid than this need no shift of the probe."""


class Exposures:
    """The store with what belongs to each slot; gathers batches for the engine."""

    def __init__(
        self,
        setting: Setting,
        options: ReconOptions,
        nuisance: Nuisance | None,
        device: torch.device,
    ) -> None:
        e = options.engine
        self.setting, self.device, self.nuisance = setting, device, nuisance
        self.store = FrameStore(
            e.store,
            setting.size,
            held_out_share=e.held_out,
            wide=setting.wide,
            device=device,
        )
        mask = setting.mask
        self.mask = None if mask is None else torch.from_numpy(mask).to(device)
        self.margin_px = 0
        if nuisance is not None:
            self.margin_px = math.ceil(options.nuisance.position_bound_px) + 1
        self.physics = options.physics
        self.count = 0
        self.photons, self._unit = 0.0, 1.0
        self._path_px: np.ndarray | None = None
        if options.physics.fly_points > 1:
            self._path_px = np.zeros((e.store, 2, 2))
        self._monitor = np.full(e.store, np.nan)

    def add(
        self,
        index: int,
        counts: np.ndarray,
        position_m: tuple[float, float],
        path_m: tuple[tuple[float, float], tuple[float, float]] | None,
        monitor: float,
    ) -> tuple[Box, Box]:
        """Keep one exposure; return its patch, and all that it may look at."""
        place = np.asarray(position_m) / self.setting.pixel_m
        slot = self.store.put(index, counts, place)
        if self.nuisance is not None:
            trained = not self.store.held_out[slot]
            self.nuisance.place(slot, place, trained=trained)
        self._monitor[slot] = monitor if monitor > 0 else math.nan
        self.count += 1
        size = self.setting.size
        corner = np.round(place - size / 2).astype(np.int64)
        reach = self._reached(slot, corner, path_m)
        if self.count <= FIRST:
            self._weigh()
        return Box(int(corner[0]), int(corner[1]), size, size), reach

    @property
    def gauge(self) -> tuple[float, float]:
        """Photons to an amplitude of 1, and the monitor's unit; the first set it."""
        return self.photons, self._unit

    @gauge.setter
    def gauge(self, gauge: tuple[float, float]) -> None:
        self.photons, self._unit = gauge

    def doubt(self, counts: int) -> None:
        """Leave pixels of so many counts and more out from now on, frame by frame."""
        self.physics = replace(self.physics, saturated=counts)

    def batch(self, slots: np.ndarray) -> Batch:
        """Gather exposures: amplitudes in the engine's gauge, corners and shifts."""
        corner = self.store.position_px[slots] - self.setting.size / 2
        whole = np.round(corner)
        beside = corner - whole
        at = torch.from_numpy(slots).to(self.device, non_blocking=True)
        shift = None
        if np.abs(beside).max() > ON_GRID_PX:
            shift = torch.from_numpy(beside).float().to(self.device, non_blocking=True)
        amplitude = self.store.amplitude(at).mul_(self.photons**-0.5)
        strength = self._monitor[slots] / self._unit
        if not np.isnan(strength).all():
            by = torch.from_numpy(np.nan_to_num(strength, nan=1.0) ** -0.5).float()
            amplitude *= by.to(self.device, non_blocking=True)[:, None, None]
        return Batch(
            [(int(y), int(x)) for y, x in whole],
            shift,
            amplitude,
            None if self._path_px is None else self._path_px[slots],
            self._believed(amplitude),
            None if self.nuisance is None else at,
        )

    def held_out(self) -> np.ndarray:
        """Return slots of held-out exposures, spread over the scan."""
        held = np.flatnonzero(self.store.held_out[: self.store.frames])
        held = held[np.argsort(self.store.order[held])]
        some = np.linspace(0, len(held) - 1, min(len(held), MEASURED))
        return held[some.astype(int)]

    def held_out_near(self, rng: np.random.Generator) -> np.ndarray:
        """Return slots of up to 16 held-out exposures that share a window."""
        held = np.flatnonzero(self.store.held_out[: self.store.frames])
        if not len(held):
            return held
        place = self.store.position_px[held]
        away = np.abs(place - place[rng.integers(len(held))]).max(1)
        near = held[np.argsort(away)[:16]]
        return near[np.sort(away)[:16] <= self.setting.size]

    def positions_px(self) -> np.ndarray:
        """Return where the exposures in the store were taken, as refined.

        In order of arrival.
        """
        came = np.argsort(self.store.order[: self.store.frames])
        given = self.store.position_px[came]
        if self.nuisance is None:
            return given
        slots = torch.from_numpy(came).to(self.device)
        with torch.no_grad():
            return given + self.nuisance.moves(slots).cpu().numpy()

    def _weigh(self) -> None:
        """Find the photons to an amplitude of 1 from the first exposures."""
        told = self._monitor[: self.store.frames]
        told = told[~np.isnan(told)]
        self._unit = float(told.mean()) if len(told) else 1.0
        slots = torch.arange(self.store.frames, device=self.device)
        light = self.store.amplitude(slots).square()
        used = torch.ones_like(light, dtype=torch.bool)
        if self.physics.saturated is not None:
            used = light < self.physics.saturated - 0.5
        if self.mask is not None:
            used &= self.mask
        self.photons = max(float(light[used].mean()), 1e-12)

    def _believed(
        self, amplitude: Float[Tensor, "b k k"]
    ) -> Bool[Tensor, "b k k"] | None:
        """Return which pixels are below saturation; None where all are believed."""
        saturated = self.physics.saturated
        if saturated is None:
            return None
        below = amplitude < ((saturated - 0.5) / self.photons) ** 0.5
        return below if self.mask is None else below & self.mask

    def _reached(
        self,
        slot: int,
        corner: np.ndarray,
        path_m: tuple[tuple[float, float], tuple[float, float]] | None,
    ) -> Box:
        """Note an exposure's path, and return all that it may look at."""
        path = None
        if self._path_px is not None:
            ends = np.asarray(path_m or 2 * [self.store.position_px[slot]])
            ends = ends / self.setting.pixel_m if path_m else ends
            self._path_px[slot] = ends - self.setting.size / 2 - corner
            path = self._path_px[slot, None]
        low, high = reached(corner[None], path, self.margin_px)
        h, w = (int(v) for v in high[0] - low[0] + self.setting.size)
        return Box(int(low[0, 0]), int(low[0, 1]), h, w)
