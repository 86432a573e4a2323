"""The science is a step: object, probe and a batch in, statistics out."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ptystream.models.field import Box
from ptystream.physics.fused import Patterns
from ptystream.recon.learners import Learner
from ptystream.recon.optics import Gradients, Optics, Shots
from ptystream.recon.regularise import Prior


class Batch(NamedTuple):
    """Exposures near each other; ``corners_px`` are their patches' top-left pixels.

    ``shift_px`` is how far each lies beside its corner, ``path_px`` ``[b, 2, 2]`` where
    it began and ended, beside it too. ``mask`` is true where a pixel of a pattern can
    be trusted, None where the detector's mask says it all. ``frame`` numbers exposures.
    """

    corners_px: list[tuple[int, int]]
    shift_px: Float[Tensor, "b 2"] | None
    amplitude: Float[Tensor, "b k k"]
    path_px: np.ndarray | None = None
    mask: Bool[Tensor, "b k k"] | None = None
    frame: Int[Tensor, " b"] | None = None


@dataclass(frozen=True, slots=True)
class StepStats:
    """One step. ``loss`` and ``by_pattern`` stay on the device: reading them waits."""

    loss: Float[Tensor, ""]
    by_pattern: Float[Tensor, " b"]
    exposures: int


@dataclass(frozen=True, slots=True)
class Rates:
    """What a step may change, and how fast; ``fade`` scales every rate.

    ``optics``: background, positions and brightness.
    """

    fade: float = 1.0
    probe: bool = True
    optics: bool = True


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
        optics: Optics,
        *,
        size: int,
        damping: float,
        mask: Bool[Tensor, "k k"] | None,
        prior: Prior | None = None,
        margin_px: int = 0,
    ) -> None:
        """Join what learns.

        Args:
            objects: the object, which a later stage may replace by another.
            probe: the probe, likewise.
            optics: what stands between them and the patterns.
            size: k, of the patterns.
            damping: light that every pixel is taken to have, of the brightest.
            mask: true where the detector can be trusted; None: everywhere.
            prior: soft constraints.
            margin_px: how far beside its patch an exposure may look.
        """
        self.objects, self.probe, self.optics = objects, probe, optics
        self._frame = Box(0, 0, size, size)
        self._damping, self._mask, self._margin = damping, mask, margin_px
        self._prior = prior or Prior()
        self.steps = 0
        self._refused: Tensor | None = None

    def step(self, batch: Batch, rates: Rates = FULL) -> StepStats:
        """Learn from one batch; a step that is not finite changes nothing, counted."""
        box, shots = self.place(batch)
        window = self.objects.window(box)
        with torch.set_grad_enabled(rates.probe):
            probe = self.probe.window(self._frame)
        got = self.optics.gradients(window, probe, shots, probe_too=rates.probe)
        if not self._prior.idle:
            got = self._prior.add(got, window, probe, self.steps)
        loss = got.loss.mean()
        finite = torch.isfinite(loss) & torch.isfinite(got.by_window.real.sum())
        self._learn(got, rates, finite)
        if rates.optics:
            self.optics.learn(rates.fade, finite)
        else:
            self.optics.forget()
        self.steps += 1
        refused = (~finite).int()
        self._refused = refused if self._refused is None else self._refused + refused
        return StepStats(loss, got.loss, len(batch.corners_px))

    def beside(self) -> "Engine":
        """Return an engine of the same experiment, to be given an object of its own."""
        return Engine(
            self.objects,
            self.probe,
            self.optics,
            size=self._frame.h,
            damping=self._damping,
            mask=self._mask,
            prior=self._prior,
            margin_px=self._margin,
        )

    def place(self, batch: Batch) -> tuple[Box, Shots]:
        """Return the window that holds a batch, and the batch within it."""
        corners = np.array(batch.corners_px)
        low, high = reached(corners, batch.path_px, self._margin)
        first = low.min(0)
        extent = high.max(0) + self._frame.h - first
        box = Box(*first.tolist(), *extent.tolist())
        device = batch.amplitude.device
        at = torch.from_numpy(corners - first).to(device, non_blocking=True)
        mask = self._mask if batch.mask is None else batch.mask
        path = None
        if batch.path_px is not None:
            ends = torch.from_numpy(batch.path_px).float()
            path = ends.to(device, non_blocking=True)
        patterns = Patterns(at, batch.shift_px, batch.amplitude, mask)
        return box, Shots(patterns, path, batch.frame)

    def refused(self) -> int:
        """Return how many steps were not finite; waits for the device."""
        return 0 if self._refused is None else int(self._refused)

    def _learn(self, got: Gradients, rates: Rates, finite: Bool[Tensor, ""]) -> None:
        """Divide gradients by the light that they were measured in, and learn."""
        light = got.illumination
        floor = self._damping * light.max()
        share = ((1 - self._damping) * light + floor).reciprocal_()
        trust = light * share
        trust = trust[0] if len(trust) == 1 else trust.mean(0)
        by_window = got.by_window
        if self.objects.by_light:
            by_window = by_window * share  # a complex division takes 3 times as long
        self.objects.learn(by_window, trust, rates.fade, finite)
        if rates.probe:
            by_probe = got.by_probe / got.transmission
            sure = torch.ones_like(by_probe[0].real)
            self.probe.learn(by_probe, sure, rates.fade, finite)


def reached(
    corners: np.ndarray, path_px: np.ndarray | None, margin_px: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the first and the last corner ``[b, 2]`` that each exposure may look at.

    Args:
        corners: ``[b, 2]`` of the patches.
        path_px: ``[b, 2, 2]``, start and end beside the corner; None: it stood.
        margin_px: how far beside all that it may look.
    """
    low, high = corners - margin_px, corners + margin_px
    if path_px is None:
        return low, high
    before = np.floor(path_px.min(1).clip(max=0)).astype(corners.dtype)
    after = np.ceil(path_px.max(1).clip(min=0)).astype(corners.dtype)
    return low + before, high + after
