"""The science is a step: object, probe and a batch in, statistics out."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ptystream.models.field import Box
from ptystream.physics.fused import Gradients, Patterns, gradients
from ptystream.recon.learners import Learner


class Batch(NamedTuple):
    """Exposures near each other; ``corners_px`` are their patches' top-left pixels."""

    corners_px: list[tuple[int, int]]
    shift_px: Float[Tensor, "b 2"] | None
    amplitude: Float[Tensor, "b k k"]


@dataclass(frozen=True, slots=True)
class StepStats:
    """One step. ``loss`` and ``by_pattern`` stay on the device: reading them waits."""

    loss: Float[Tensor, ""]
    by_pattern: Float[Tensor, " b"]
    exposures: int


@dataclass(frozen=True, slots=True)
class Rates:
    """What a step may change, and how fast; ``fade`` scales every rate."""

    fade: float = 1.0
    probe: bool = True


FULL = Rates()


class Engine:
    """Joint learning of object and probe from batches of amplitudes.

    The gauge is fixed: amplitudes come with a mean square of 1 a pixel, and the probe
    is kept at that light, so that empty space has a transmission near 1.
    """

    def __init__(
        self,
        objects: Learner,
        probe: Learner,
        *,
        size: int,
        beta: float,
        damping: float,
        mask: Bool[Tensor, "k k"] | None,
    ) -> None:
        self.objects, self.probe = objects, probe
        self._frame = Box(0, 0, size, size)
        self._beta, self._damping, self._mask = beta, damping, mask
        self.steps = 0
        self._refused: Tensor | None = None

    def step(self, batch: Batch, rates: Rates = FULL) -> StepStats:
        """Learn from one batch; a step that is not finite changes nothing, counted."""
        box, patterns = self.place(batch)
        window = self.objects.window(box)
        probe = self.probe.window(self._frame)
        if len(window) > 1:
            raise ValueError("the live engine takes one slice")
        got = gradients(
            window[0], probe, patterns, beta=self._beta, probe_too=rates.probe
        )
        loss = got.loss.mean()
        finite = torch.isfinite(loss) & torch.isfinite(got.by_window.real.sum())
        self._learn(got, rates, finite)
        self.steps += 1
        refused = (~finite).int()
        self._refused = refused if self._refused is None else self._refused + refused
        return StepStats(loss, got.loss, len(batch.corners_px))

    def place(self, batch: Batch) -> tuple[Box, Patterns]:
        """Return the window that holds a batch, and the batch within it."""
        corners = np.array(batch.corners_px)
        first = corners.min(0)
        corners -= first
        box = Box(*first.tolist(), *(corners.max(0) + self._frame.h).tolist())
        device = batch.amplitude.device
        at = torch.from_numpy(corners).to(device, non_blocking=True)
        return box, Patterns(at, batch.shift_px, batch.amplitude, self._mask)

    def refused(self) -> int:
        """Return how many steps were not finite; waits for the device."""
        return 0 if self._refused is None else int(self._refused)

    def _learn(self, got: Gradients, rates: Rates, finite: Bool[Tensor, ""]) -> None:
        """Divide the gradients by the light that they were measured in, and learn."""
        light = got.illumination
        floor = self._damping * light.max()
        share = ((1 - self._damping) * light + floor).reciprocal_()
        by_window = (got.by_window * share)[
            None
        ]  # a complex division takes 3 times as long
        self.objects.learn(by_window, light * share, rates.fade, finite)
        if rates.probe:
            by_probe = got.by_probe / got.transmission
            trust = torch.ones_like(by_probe[0].real)
            self.probe.learn(by_probe, trust, rates.fade, finite)
