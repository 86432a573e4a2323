"""The resolution: down to where two reconstructions of half the data each agree.

Both are of plain pixels, whatever the object's field: fields that expect smoothness
make the same mistakes twice, and agree on them (at 10⁴ photons a frame by 0.5 at
Nyquist, where the truth has nothing of it). So this is what the data resolve without
a prior. It is the resolution at half the dose: all of the data resolve more, by up to
√2 where photons are the limit, and nothing is added here for that. The half-bit
threshold is that of van Heel and Schatz (2005).

What the halves share is not seen to be wrong: probe, background and positions are those
learned from all exposures. With a wrong probe the resolution comes out too good.
"""

import numpy as np
import torch
from jaxtyping import Bool, Complex

from ptystream.buffers.sampling import Mix, Sampler
from ptystream.models.field import Box, Field
from ptystream.recon import metrics
from ptystream.recon.build import reach
from ptystream.recon.coverage import Coverage
from ptystream.recon.engine import Engine, Rates
from ptystream.recon.exposures import Exposures
from ptystream.recon.learners import PixelLearner
from ptystream.recon.looks import Look
from ptystream.recon.metrics import Frc
from ptystream.recon.options import ReconOptions
from ptystream.recon.stages import Stages

LEAST_PX = 16
"""A region with a shorter side than this has too few rings."""
LIT = 0.1
"""Coverage, in peaks of the probe, that a pixel must have had from each half."""
COMPARED_PX = 1024
"""Of a larger region, the middle square of this side is compared."""
EDGE = 3
"""The window's edge is the shorter side over this: a steeper one lets the low
frequencies, on which the halves agree, leak into the high ones."""
SLOW = 3
"""So many of the lowest rings are not asked: a third of the field and more, which is
learned last of all and says nothing of detail."""


class Half:
    """Plain pixels that learn from the exposures of even, or of odd index alone."""

    def __init__(
        self,
        parity: int,
        engine: Engine,
        exposures: Exposures,
        stages: Stages,
        options: ReconOptions,
    ) -> None:
        self.engine = engine
        self.engine.objects = stages.plain()
        self.coverage = Coverage(exposures.setting.size, exposures.device)
        self._exposures, self._stages = exposures, stages
        self._sampler = Sampler(
            exposures.store,
            batch=options.engine.batch,
            reach=reach(options, network=False),
            seed=options.engine.seed + 1 + parity,
            parity=parity,
        )

    @property
    def field(self) -> Field:
        """The object."""
        return self.engine.objects.field

    def step(self, fade: float, mix: Mix) -> None:
        """Learn from one batch of these exposures; probe and optics stay."""
        self.engine.probe = self._stages.probes
        slots = self._sampler.pick(mix)
        if len(slots):
            batch = self._exposures.batch(slots)
            self.engine.step(batch, Rates(fade, probe=False, optics=False))

    def saw(self, look: Look) -> None:
        """Note which exposures are poorly fitted, and how much pixels may settle."""
        self._sampler.saw(look.loss, look.arrivals)
        if isinstance(self.engine.objects, PixelLearner):
            self.engine.objects.calm = look.noise


class Halves:
    """Two halves, even and odd, that learn beside what is published.

    They never learn from each other, nor from what is held out.
    """

    def __init__(
        self,
        engine: Engine,
        exposures: Exposures,
        stages: Stages,
        options: ReconOptions,
    ) -> None:
        """Begin with empty objects."""
        self._options = options.quality
        self.both = tuple(
            Half(parity, engine.beside(), exposures, stages, options)
            for parity in (0, 1)
        )
        self._due, self._turn = 0.0, 0
        self._frc: Frc | None = None
        self._compared = -options.quality.frc_steps
        self._pixel_m = exposures.setting.pixel_m

    def add(self, index: int, place_px: np.ndarray, patch: Box, probe: Field) -> None:
        """Note an exposure's light: that of its half alone."""
        frame = Box(0, 0, patch.h, patch.w)
        half = self.both[index % 2]
        half.coverage.add(place_px, patch, lambda: probe.window(frame))

    def cover(self, box: Box) -> None:
        """Make room for what an exposure may look at."""
        for half in self.both:
            half.field.cover(box)

    def advance(self, fade: float, mix: Mix) -> None:
        """Take the steps that are due after one of the published object."""
        share = self._options.halves_share
        self._due += share / (1 - share)
        while self._due >= 1:
            half = self.both[self._turn]
            half.step(fade, mix)
            self._due, self._turn = self._due - 1, 1 - self._turn

    def saw(self, look: Look) -> None:
        """Take note of a look at the published object."""
        for half in self.both:
            half.saw(look)

    def compare(self, box: Box, step: int) -> Frc | None:
        """Return the halves' correlation on a box, made anew now and then.

        None while they do not both cover an area without gaps, 16 pixels each way.
        """
        if step - self._compared >= self._options.frc_steps:
            self._compared = step
            self._frc = self._made(box)
        return self._frc

    def _made(self, box: Box) -> Frc | None:
        """Correlate the halves where both were lit."""
        lit = [half.coverage.picture(box) >= LIT for half in self.both]
        part, region = _middle(lit[0] & lit[1])
        if min(region.shape) < LEAST_PX:
            return None
        y, x = (s.start for s in part)
        inside = Box(box.y + y, box.x + x, region.shape[0], region.shape[1])
        a, b = (_projected(half.field, inside) for half in self.both)
        if not (np.isfinite(a).all() and np.isfinite(b).all()):
            return None
        window = metrics.soft_window(region, min(region.shape) // EDGE)
        if window.max() < 1:  # islands: their shores, which both have, would agree
            return None
        # The probe that they share holds shift and ramp: only the offset is free.
        offset = np.angle((window * a * b.conj()).sum())
        whole = metrics.frc(a, b * np.exp(1j * offset), self._pixel_m, window)
        return Frc(
            whole.frequency_per_m[SLOW:],
            whole.correlation[SLOW:],
            whole.samples[SLOW:],
        )


def _projected(field: Field, box: Box) -> Complex[np.ndarray, "h w"]:
    """Return the product of a field's slices."""
    with torch.no_grad():
        window = field.window(box)
    return window.cpu().numpy().astype(np.complex128).prod(0)


def _middle(
    region: Bool[np.ndarray, "h w"],
) -> tuple[tuple[slice, slice], Bool[np.ndarray, "a b"]]:
    """Return where the region lies, its middle if it is large, and that part."""
    sides = []
    for axis in (1, 0):
        lit = np.flatnonzero(region.any(axis=axis))
        first, last = (int(lit[0]), int(lit[-1]) + 1) if len(lit) else (0, 0)
        over = max(0, last - first - COMPARED_PX) // 2
        sides.append(slice(first + over, min(last, first + over + COMPARED_PX)))
    part = (sides[0], sides[1])
    return part, region[part]
