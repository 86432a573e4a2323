"""One short reconstruction of a few exposures, and how it predicts some held out."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Complex, Float
from torch import Tensor

from ptystream.models.field import Box
from ptystream.models.pixels import Pixels
from ptystream.recon.aberrations import Aberrations
from ptystream.recon.engine import Batch, Engine, Rates
from ptystream.recon.learners import PixelLearner, at_unit_light
from ptystream.recon.optics import FusedOptics
from ptystream.recon.quality import root_variance

BATCH = 10
"""Exposures a step: ten passes with so many learn as much as a hundred steps with all,
at a quarter of the time."""
HELD_OUT = 5
"""One in so many is held out."""
OBJECT_RATE, PROBE_RATE, MOMENTUM, DAMPING = 0.3, 0.5, 0.8, 0.05
ABERRATION_RATE_RAD = 0.1
FADED = 0.3
"""Rates fall to this over the passes."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Exposures to try hypotheses on, cut to where the light is.

    ``coarser`` is the object's pixel over the reconstruction's; ``photons`` are those
    to an amplitude of 1.
    """

    amplitude: Float[Tensor, "n c c"]
    mask: Bool[Tensor, "c c"] | Bool[Tensor, "n c c"] | None
    probe: Complex[Tensor, "m c c"]
    index: np.ndarray
    coarser: float
    photons: float


class Fit(NamedTuple):
    """Of each held-out exposure: Σ(a - A)², that of an empty object, and of noise."""

    error: Float[Tensor, " h"]
    flat: Float[Tensor, " h"]
    noise: Float[Tensor, " h"]


class Trial:
    """A reconstruction in pixels, from nothing, with the exposures at given places."""

    def __init__(
        self,
        sample: Sample,
        rows: np.ndarray,
        place_px: Float[np.ndarray, "r 2"],
        *,
        passes: int,
        seed: int,
    ) -> None:
        """Store.

        Args:
            sample: what was measured.
            rows: which of its exposures take part.
            place_px: where they were taken, in the reconstruction's pixels.
            passes: times that each is learned from.
            seed: of what is held out, and of the order.
        """
        self._sample, self._rows, self._passes = sample, rows, passes
        self._rng = np.random.default_rng(seed)
        size = sample.amplitude.shape[-1]
        self._frame = Box(0, 0, size, size)
        corner = place_px / sample.coarser - size / 2
        self._corner = np.round(corner).astype(np.int64)
        self._beside = torch.from_numpy(corner - self._corner).float()
        order = self._rng.permutation(len(rows))
        held = max(1, len(rows) // HELD_OUT)
        self._held, self._trained = order[:held], order[held:]

    def run(self) -> Iterator[int]:
        """Learn step by step, each yielding how many exposures it took."""
        batches = max(1, len(self._trained) // BATCH)
        self._engine = self._built(batches * self._passes)
        for done in range(self._passes):
            fade = 1 - (1 - FADED) * done / self._passes
            order = self._rng.permutation(self._trained)
            for first in range(batches):
                some = order[first::batches]
                self._engine.step(self._batch(some), Rates(fade))
                yield len(some)

    @torch.no_grad()
    def fit(self) -> Fit:
        """Predict what was held out."""
        engine, batch = self._engine, self._batch(self._held)
        box, shots = engine.place(batch)
        window = engine.objects.field.window(box)
        probe = engine.probe.field.window(self._frame)
        model = engine.optics.predict(window, probe, shots)
        empty = engine.optics.predict(torch.ones_like(window), probe, shots)
        measured, photons = batch.amplitude, self._sample.photons
        used = shots.patterns.mask
        weight = torch.ones_like(measured) if used is None else used.float()
        noise = root_variance(model.square() * photons) / photons
        squares = (
            (model - measured).square(),
            (empty - measured).square(),
            noise,
        )
        return Fit(*((s * weight).sum((1, 2)) for s in squares))

    def _built(self, steps: int) -> Engine:
        """Return an engine that knows the first probe, and nothing else."""
        first = at_unit_light(self._sample.probe)
        low, high = self._corner.min(0), self._corner.max(0) + self._frame.h
        objects = Pixels(device=str(first.device))
        objects.cover(Box(*low.tolist(), *(high - low).tolist()))
        probe = Pixels(len(first), empty=0j, device=str(first.device))
        probe.write(self._frame, first)
        return Engine(
            PixelLearner(objects, rate=OBJECT_RATE, momentum=MOMENTUM),
            PixelLearner(
                probe,
                rate=PROBE_RATE,
                momentum=MOMENTUM,
                constraint=at_unit_light,
                aberrations=Aberrations(
                    first, order=4, rate_rad=ABERRATION_RATE_RAD, steps=steps
                ),
            ),
            FusedOptics(beta=1.0),
            size=self._frame.h,
            damping=DAMPING,
            mask=None,
        )

    def _batch(self, some: np.ndarray) -> Batch:
        """Return some of the exposures."""
        sample, device = self._sample, self._sample.amplitude.device
        at = torch.from_numpy(self._rows[some]).to(device, non_blocking=True)
        mask = sample.mask
        return Batch(
            [(int(y), int(x)) for y, x in self._corner[some]],
            self._beside[torch.from_numpy(some)].to(device, non_blocking=True),
            sample.amplitude[at],
            mask=mask[at] if mask is not None and mask.ndim == 3 else mask,
        )
