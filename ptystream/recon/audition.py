"""First probes tried on the first exposures: the one that explains them best begins."""

import math
from collections.abc import Sequence

import numpy as np
import torch

from ptystream.models.field import Box
from ptystream.recon.build import (
    object_learner,
    object_pixels,
    probe_learner,
    probe_pixels,
)
from ptystream.recon.contest import Verdict, left
from ptystream.recon.engine import Engine, Rates, StepStats
from ptystream.recon.exposures import Exposures
from ptystream.recon.learners import at_unit_light
from ptystream.recon.options import ReconOptions
from ptystream.recon.predictor import Predictor
from ptystream.recon.setting import FirstProbe

JUDGES = 4
"""One in so many exposures judges, and is not learned from."""
CLEAR = 0.9
"""Another probe takes the first one's place with less than this share of what that
leaves unexplained. Where frames hardly overlap, a defocus 50 % off is no worse."""
TRIAL = Rates(probe=False, optics=False)


class Audition:
    """Each probe, held as it is, teaches an empty object of its own for a few steps.

    The objects are plain pixels. On 24 exposures of 64², 20 steps leave 1.7 to 4 times
    as much of a probe 50 % out of focus as of the right one where these overlap by
    85 % and more; of one of half the size 50 times as much, even at 30 %.
    """

    def __init__(
        self,
        probes: Sequence[FirstProbe],
        engine: Engine,
        exposures: Exposures,
        options: ReconOptions,
        box: Box,
    ) -> None:
        """Take what has arrived.

        Args:
            probes: the first is preferred.
            engine: whose experiment it is; it learns nothing.
            exposures: what is in store now is learned from.
            options: the reconstruction's.
            box: all that these exposures look at.
        """
        most = max(options.engine.batch, options.start.frames)  # a step's memory
        slots = np.arange(min(exposures.store.frames, most))
        judges = exposures.store.held_out[: len(slots)] | (slots % JUDGES == JUDGES - 1)
        self._judges, self._taught = slots[judges], slots[~judges]
        self._probes, self._exposures, self._options = probes, exposures, options
        self._engines = [self._engine(engine, probe, box) for probe in probes]

    @property
    def done(self) -> bool:
        """Whether all have had their steps."""
        return self._engines[-1].steps >= self._options.start.steps

    def step(self, box: Box) -> StepStats:
        """Let the probe whose turn it is take one step.

        ``box`` is all that exposures look at by now: slots may hold others since.
        """
        for engine in self._engines:
            engine.objects.field.cover(box)
        turn = min(range(len(self._engines)), key=lambda n: self._engines[n].steps)
        self._place(self._probes[turn])
        return self._engines[turn].step(self._exposures.batch(self._taught), TRIAL)

    def winner(self) -> FirstProbe:
        """Return the probe that predicts best what it was not taught, and place it."""
        left_by = [self._judged(n) for n in range(len(self._probes))]
        best = min(range(len(left_by)), key=lambda n: left_by[n].error)
        if not left(left_by[best], left_by[0]) < CLEAR:
            best = 0
        self._place(self._probes[best])
        return self._probes[best]

    def _judged(self, turn: int) -> Verdict:
        """Return what a probe leaves unexplained."""
        engine = self._engines[turn]
        self._place(self._probes[turn])
        total = Predictor(engine, self._exposures).misfit(
            self._judges, engine.objects.field, engine.probe.field
        )
        if total is None or not math.isfinite(total.error):
            return Verdict(math.inf, 0.0, self._judges)
        return Verdict(float(total.error), float(total.noise), self._judges)

    def _place(self, probe: FirstProbe) -> None:
        """Put the exposures where they are by what belongs to this probe."""
        if self._exposures.nuisance is not None:
            self._exposures.nuisance.begin(probe.affine)

    def _engine(self, engine: Engine, probe: FirstProbe, box: Box) -> Engine:
        """Return an engine with this probe, and an object that is empty."""
        device, options = self._exposures.device, self._options
        first = at_unit_light(probe.waves.to(device, torch.complex64))
        own = engine.beside()
        own.objects = object_learner(object_pixels(options, device), options)
        own.objects.field.cover(box)
        own.probe = probe_learner(probe_pixels(first), options, first)
        return own
