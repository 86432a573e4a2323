"""Compares what the reconstruction predicts with what was measured."""

import math

import numpy as np
import torch
from torch import Tensor

from ptystream.models.field import Box, Field
from ptystream.recon.contest import Side, Verdict
from ptystream.recon.engine import Engine
from ptystream.recon.exposures import Exposures
from ptystream.recon.hold import still
from ptystream.recon.optics import Shots
from ptystream.recon.quality import Misfit, misfit
from ptystream.recon.snapshot import Latest

TOGETHER = 16
"""Exposures predicted at once: those that lie together share a window."""


class Predictor:
    """Predicts exposures of the store; learns nothing."""

    def __init__(self, engine: Engine, exposures: Exposures) -> None:
        self._engine, self._exposures = engine, exposures
        size = exposures.setting.size
        self._frame = Box(0, 0, size, size)

    def misfit(self, slots: np.ndarray, objects: Field, probe: Field) -> Misfit | None:
        """Sum the misfit of exposures, in batches; None of none."""
        total = None
        for start in range(0, len(slots), TOGETHER):
            part = self._misfit(slots[start : start + TOGETHER], objects, probe)
            total = part if total is None else total.plus(part)
        return total

    def newest(self, objects: Field, probe: Field) -> Latest:
        """Return the exposure that came last beside its prediction."""
        seen = self._exposures
        slot = int(seen.store.order[: seen.store.frames].argmax())
        window, lit, shots = self.shown(np.array([slot]), objects, probe)
        with torch.no_grad():
            predicted = self._engine.optics.predict(window, lit, shots)
        both = torch.stack([shots.patterns.amplitude, predicted])[:, 0]
        measured, predicted = (both.square() * seen.photons).cpu().numpy()
        y, x = (seen.store.position_px[slot] * seen.setting.pixel_m).tolist()
        return Latest(int(seen.store.index[slot]), (y, x), measured, predicted)

    def judged(self, side: Side, judges: np.ndarray | None) -> Verdict:
        """Return how a side predicts held-out exposures, and which they were.

        Slots are used again: exposures are known by their number of arrival.
        """
        store = self._exposures.store
        slots, order = self._exposures.held_out(), store.order[: store.frames]
        if judges is not None:
            slots = np.flatnonzero(np.isin(order, judges))
            slots = slots[np.argsort(order[slots])]
        total = self.misfit(slots, side.objects.field, side.probes.field)
        if total is None:
            return Verdict(math.nan, math.nan, order[slots])
        return Verdict(float(total.error), float(total.noise), order[slots])

    @torch.no_grad()
    def shown(
        self, slots: np.ndarray, objects: Field, probe: Field
    ) -> tuple[Tensor, Tensor, Shots]:
        """Return what exposures see: object window and probe; and the exposures."""
        box, shots = self._engine.place(self._exposures.batch(slots))
        with still(objects, probe):
            return objects.window(box), probe.window(self._frame), shots

    def _misfit(self, slots: np.ndarray, objects: Field, probe: Field) -> Misfit:
        """Return the misfit of one batch."""
        window, lit, shots = self.shown(slots, objects, probe)
        see = self._engine.optics.predict
        return misfit(
            see(window, lit, shots),
            see(torch.ones_like(window), lit, shots),
            shots.patterns.amplitude,
            photons=self._exposures.photons,
            mask=shots.patterns.mask,
        )
