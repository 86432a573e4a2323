"""The stages of a reconstruction: identical slices, pixels, networks taught by them."""

import torch
from jaxtyping import Complex
from torch import Tensor

from ptystream.models.field import Box, Field
from ptystream.models.pixels import Pixels
from ptystream.recon.build import (
    SMOOTH,
    as_pupil,
    object_field,
    object_hold,
    object_learner,
    object_pixels,
    object_pupil,
    plain_learner,
    probe_field,
    probe_learner,
    probe_pixels,
    probe_pupil,
    warmup_steps,
)
from ptystream.recon.contest import Contest, Judge, Side
from ptystream.recon.engine import Engine
from ptystream.recon.handover import Pupil
from ptystream.recon.learners import Learner, at_unit_light
from ptystream.recon.networks import ORTHOGONAL
from ptystream.recon.options import ReconOptions


class Stages:
    """Object and probe as they are now, and what becomes of them after which step.

    ``objects`` and ``probes`` are their learners. Networks that wait for their turn
    learn the pixels in the last steps before it.
    """

    def __init__(
        self,
        options: ReconOptions,
        first: Complex[Tensor, "m k k"],
        device: torch.device,
    ) -> None:
        self._options = options
        self._first = at_unit_light(first.to(device, torch.complex64))
        self._frame = Box(0, 0, *first.shape[-2:])
        self._hold = object_hold(options)
        self._warmup = warmup_steps(options)
        self._object_pupil: Pupil | None = None
        self._probe_pupil: Pupil | None = None
        if self._warmup and options.object.field not in ("pixels", *SMOOTH):
            self._object_pupil = object_pupil(options, device, self._hold)
            self.object: Field = object_pixels(options, device)
        else:
            self.object = object_field(options, device, self._hold)
        if self._warmup and options.probe.field != "pixels":
            self._probe_pupil = probe_pupil(self._first, options)
            self.probe: Field = probe_pixels(self._first)
        else:
            self.probe = probe_field(self._first, options, device)
        self.objects = object_learner(self.object, options, self._hold)
        self.probes = probe_learner(self.probe, options, self._first)
        self._contest: Contest | None = None
        self.begun = False

    @property
    def network(self) -> bool:
        """Whether the object is a network by now."""
        return not isinstance(self.object, Pixels)

    @property
    def waiting(self) -> bool:
        """Whether a network is yet to take over from pixels."""
        return self._object_pupil is not None or self._probe_pupil is not None

    def plain(self) -> Learner:
        """Return plain pixels that know nothing, under the object's constraints."""
        return plain_learner(self._options, self._first.device, self._hold)

    def begin(self, box: Box, estimate: Complex[Tensor, "s h w"]) -> None:
        """Let the object start as an estimate: pixels are set, a network is taught it.

        A network sees it in ``object.pretrain_steps`` lessons.
        """
        estimate, self.begun = estimate.to(self._first), True
        if isinstance(self.object, Pixels):
            self.object.write(box, estimate)
            return
        teacher = object_pixels(self._options, self._first.device)
        teacher.write(box, estimate)
        pupil = as_pupil(self.object, self._options)
        pupil.show(teacher, box)
        for _ in range(self._options.object.pretrain_steps):
            pupil.lesson(teacher, box)
        pupil.graduate()

    def restart(self, first: Complex[Tensor, "m k k"], engine: Engine) -> None:
        """Begin with another probe; to be called before the first step."""
        self._first = at_unit_light(first.to(self._first))
        if self._probe_pupil is not None:
            self._probe_pupil = probe_pupil(self._first, self._options)
            self.probe = probe_pixels(self._first)
        else:
            self.probe = probe_field(self._first, self._options, self._first.device)
        self.probes = probe_learner(self.probe, self._options, self._first)
        engine.probe = self.probes

    def advance(self, engine: Engine, box: Box, judge: Judge | None, seen: int) -> bool:
        """Do what is due after a step; True if another field took over.

        ``box`` is all that exposures may look at; ``judge`` tells the held-out error,
        None while there is nothing to be judged by.
        """
        step, options = engine.steps, self._options
        if step >= options.object.identical_steps:
            self._hold.identical = False
        every = options.probe.orthogonal_steps
        probe = engine.probe.field
        if every and step % every == 0 and isinstance(probe, Pixels):
            self._make_orthogonal(probe)
        if not self.waiting:
            return judge is not None and self._contend(engine, box, judge, seen)
        self._teach(step, box)
        if step < self._warmup:
            return False
        self._hand_over(engine, box)
        return True

    def _contend(self, engine: Engine, box: Box, judge: Judge, seen: int) -> bool:
        """Let smooth and plain pixels contend, if they are to."""
        options = self._options
        if options.object.field != "auto":
            return False
        if self._contest is None:
            self._contest = Contest(
                Side(self.objects, self.probes),
                self.plain,
                first=options.object.contest_steps,
            )
        if not self._contest.advance(engine, box, judge, seen):
            return False
        self.objects, self.probes = self._contest.leader
        self.object, self.probe = self.objects.field, self.probes.field
        return True

    @torch.no_grad()
    def _make_orthogonal(self, probe: Pixels) -> None:
        """Mix the probe's modes."""
        mix = ORTHOGONAL[self._options.probe.orthogonal_by]
        probe.write(self._frame, mix(probe.window(self._frame)))

    def _teach(self, step: int, box: Box) -> None:
        """Give the lessons of this step."""
        left, o = self._warmup - step, self._options
        pixels, pupil = self.object, self._object_pupil
        if pupil and isinstance(pixels, Pixels) and left < o.object.pretrain_steps:
            pupil.lesson(pixels, box)
        pixels, pupil = self.probe, self._probe_pupil
        if pupil and isinstance(pixels, Pixels) and left < o.probe.pretrain_steps:
            pupil.lesson(pixels, self._frame)

    def _hand_over(self, engine: Engine, box: Box) -> None:
        """Put the networks in the pixels' place."""
        if self._object_pupil is not None:
            if isinstance(self.object, Pixels):
                self._object_pupil.show(self.object, box)
            self.object = self._object_pupil.graduate()
            self.object.cover(box)
            self.objects = object_learner(self.object, self._options, self._hold)
        if self._probe_pupil is not None:
            if isinstance(self.probe, Pixels):
                self._probe_pupil.show(self.probe, self._frame)
            self.probe = self._probe_pupil.graduate()
            self.probes = probe_learner(self.probe, self._options, self._first)
        self._object_pupil = self._probe_pupil = None
        engine.objects, engine.probe = self.objects, self.probes
