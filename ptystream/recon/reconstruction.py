"""A scan's reconstruction: exposures, sampler, engine and quality; one thread's."""

import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ptystream.buffers.sampling import Mix, Sampler
from ptystream.buffers.store import FrameStore, StoreStats
from ptystream.models.field import Box, Field
from ptystream.physics.constraints import orthogonalise
from ptystream.recon.appraisal import Appraisal, Judged
from ptystream.recon.build import nuisance, optics, pick_device, prior, reach
from ptystream.recon.coverage import Coverage
from ptystream.recon.drawn import Drawn
from ptystream.recon.engine import Engine, Rates, StepStats
from ptystream.recon.exposures import FIRST, Exposures
from ptystream.recon.halves import Halves
from ptystream.recon.health import Health
from ptystream.recon.hold import still
from ptystream.recon.learners import PixelLearner
from ptystream.recon.looks import Looks
from ptystream.recon.nuisance import Nuisance
from ptystream.recon.opening import Opening
from ptystream.recon.options import ReconOptions
from ptystream.recon.predictor import Predictor
from ptystream.recon.setting import Setting
from ptystream.recon.snapshot import Quality, Rung, Snapshot
from ptystream.recon.stages import Stages
from ptystream.recon.stxm import seen_by_scanning

__all__ = ["FIRST", "Reconstruction", "Setting"]

LOOK = 50
"""Steps between two looks at what is poorly fitted; each costs about one step."""
DETERMINED = 2.0
"""Measured values for each unknown of the object from which plain pixels may be tried,
and the probe's wait for its aberrations; 50 % array overlap has 1.6, 70 % 3.6. With
fewer, pixels fit every frame and are wrong in between, and a probe that is not free
leaves its error to the object. With more, the pixels of a free probe take up a wrong
defocus: of a tenth, that cost 16 dB on 400 frames at 85 %, and 4 dB on 100 at 70 %."""
LEARNED = 100
"""Steps after which data that are still poorly predicted need a verdict more than steps
do, where nobody waits for pixels."""
FITTED = 4
"""Steps between two fits of held-out exposures' own places and brightness."""


class Reconstruction:
    """Takes exposures as they come and steps whenever asked."""

    def __init__(self, setting: Setting, options: ReconOptions) -> None:
        e = options.engine
        torch.manual_seed(e.seed)
        self.options, self.setting = options, setting
        self.device = pick_device(e.device)
        known = nuisance(options, self.device)
        self.exposures = Exposures(setting, options, known, self.device)
        self.stages = Stages(options, setting.probe, self.device)
        self.engine = Engine(
            self.stages.objects,
            self.stages.probes,
            optics(options, setting, self.device, known),
            size=setting.size,
            damping=e.damping,
            mask=self.exposures.mask,
            prior=prior(options),
            margin_px=self.exposures.margin_px,
        )
        self.predictor = Predictor(self.engine, self.exposures)
        self.opening = Opening(self.engine, self.exposures, options)
        self._looks = Looks(self.exposures, self.predictor)
        self.health = Health(self.exposures, options)
        self._sampler = self._new_sampler()
        self._rng = np.random.default_rng(e.seed)
        self._frame = Box(0, 0, setting.size, setting.size)
        self._coverage = Coverage(setting.size, self.device)
        self.halves: Halves | None = None
        if options.quality.halves:
            self.halves = Halves(self.engine, self.exposures, self.stages, options)
        self.appraisal = Appraisal(
            self.exposures,
            self.predictor,
            self._coverage,
            options.quality,
            self.halves,
        )
        self._box: Box | None = None
        self._room: Box | None = None
        self._last: StepStats | None = None
        self._good: Snapshot | None = None

    @property
    def object(self) -> Field:
        """The object as it is now: pixels, or a network."""
        return self.stages.object

    @property
    def probe(self) -> Field:
        """The probe as it is now."""
        return self.stages.probe

    @property
    def store(self) -> FrameStore:
        """The exposures that are held."""
        return self.exposures.store

    @property
    def nuisance(self) -> Nuisance | None:
        """What is learned of each exposure, if anything."""
        return self.exposures.nuisance

    def add(
        self,
        index: int,
        counts: np.ndarray,
        position_m: tuple[float, float],
        path_m: tuple[tuple[float, float], tuple[float, float]] | None = None,
        *,
        monitor: float = math.nan,
    ) -> None:
        """Take one exposure.

        Args:
            index: the trigger index.
            counts: ``[k, k]`` photons, zero frequency in the centre.
            position_m: (y, x) of the middle of the exposure.
            path_m: (y, x) where it began, and where it ended; None: it stood. Unused
                unless ``physics.fly_points`` is above 1.
            monitor: the beam's strength, in any unit; NaN: as that of the others.
        """
        patch, reached = self.exposures.add(index, counts, position_m, path_m, monitor)
        self._box = patch if self._box is None else self._box.union(patch)
        self._make_room(reached)
        place = np.asarray(position_m) / self.setting.pixel_m
        self._coverage.add(place, patch, lambda: self.probe.window(self._frame))
        self.opening.look()
        if self.halves is not None:
            self.halves.add(index, place, patch, self.probe)

    def step(self, *, fade: float = 1.0, live: bool = True) -> StepStats | None:
        """Learn from one batch; None while there is too little to learn from.

        Args:
            fade: scales every rate; below 1 while refining.
            live: fresh and poorly fitted exposures come first; else all alike.
        """
        if self.exposures.count < FIRST:
            return None
        if not self.opening.done:
            return self._open(wait=live)
        mix = Mix() if live else Mix(fresh=0.0, poor=0.1)
        slots = self._sampler.pick(mix)
        if not len(slots):
            return None
        if isinstance(self.engine.probe, PixelLearner):
            patient = self.options.probe.patient or False
            self.engine.probe.patient = patient and self._determined
        rates = Rates(fade, self.released and not self.options.probe.known)
        stats = self.engine.step(self.exposures.batch(slots), rates)
        at = torch.from_numpy(slots).to(self.device, non_blocking=True)
        self.store.loss[at] = stats.by_pattern
        self._last = stats
        if self.nuisance is not None and self.engine.steps % FITTED == 0:
            self._fit_held_out(fade)
        patient = not live and self.engine.steps >= LEARNED
        self.health.advance(len(slots), patient=patient)
        if self.engine.steps % LOOK == 0:
            self._look()
        judge = self.predictor.judged if self.released and self._determined else None
        seen = self.exposures.count
        if self.stages.advance(self.engine, self._whole(), judge, seen):
            self._sampler = self._new_sampler()
        if self.halves is not None:
            self.halves.advance(fade, mix)
        return stats

    @property
    def trying(self) -> bool:
        """Whether a challenger learns, and what is published stands still."""
        return self.engine.objects is not self.stages.objects

    @property
    def released(self) -> bool:
        """Whether the scan is wide enough both ways to tell probe from object."""
        if self.exposures.count < FIRST:
            return False
        return self._coverage.width >= self.options.probe.release

    @property
    def _determined(self) -> bool:
        """Whether there are data enough for an object of plain pixels."""
        if self._box is None:
            return False
        measured = self.exposures.count * self.setting.size**2
        return measured >= DETERMINED * 2 * self._box.h * self._box.w

    def measure(self) -> Quality:
        """Predict held-out exposures; waits for the device."""
        if self._last is None:
            return Quality()
        return self._quality(self.appraisal.judge(self.object, self.probe))

    def snapshot(self) -> Snapshot | None:
        """Return the reconstruction as it stands, or the last one that was finite."""
        if self._box is None or self.exposures.count < FIRST:
            return None
        drawn = Drawn(self.object, self._whole())
        made, probe = self._shown(drawn, self._box), self._probe_photons()
        if not (np.isfinite(made).all() and np.isfinite(probe).all()):
            return self._good
        pixel, told = self.setting.pixel_m, self.appraisal
        judged = told.judge(drawn, self.probe)
        quality, frc = self._quality(judged), told.compare(self._box, self.engine.steps)
        if frc is not None:
            resolution_m = frc.resolution().resolution_m
            quality = replace(quality, resolution_m=resolution_m)
        self._good = Snapshot(
            object=made,
            probe=probe,
            coverage=self._coverage.picture(self._box),
            origin_m=(self._box.y * pixel[0], self._box.x * pixel[1]),
            pixel_m=pixel,
            positions_m=self.exposures.positions_px() * pixel,
            step=self.engine.steps,
            exposures=self.exposures.count,
            rolled_back=self.engine.refused(),
            quality=quality,
            latest=self.predictor.newest(drawn, self.probe),
            confidence=told.confidence(judged, made, probe, self._box),
            frc=frc,
            health=self.health.findings,
            rung=self._rung,
            first_probe=self.opening.chosen.origin,
        )
        return self._good

    def _quality(self, judged: Judged) -> Quality:
        """Return what held-out exposures say, and the last step."""
        if self._last is None:
            return Quality()
        loss = float(self._last.loss)
        return self.appraisal.quality(judged, loss, released=self.released)

    def store_stats(self) -> StoreStats:
        """Return what the store holds."""
        return self.store.stats()

    def _open(self, *, wait: bool) -> StepStats | None:
        """Let first probes contend; the last of these steps decides."""
        before = self.opening.chosen
        stats = self.opening.step(self._whole(), wait=wait)
        if self.opening.chosen is not before:
            self.stages.restart(self.opening.chosen.waves, self.engine)
            self._light_again()
        return stats

    def _light_again(self) -> None:
        """Count the light of what is in store by the probe as it is now."""
        self._coverage.forget()
        size = self.setting.size
        for place in self.store.position_px[: self.store.frames]:
            y, x = np.round(place - size / 2).astype(int).tolist()
            patch = Box(y, x, size, size)
            self._coverage.add(place, patch, lambda: self.probe.window(self._frame))

    @property
    def _rung(self) -> Rung:
        """What the picture is by now."""
        empty = not self.engine.steps and not self.stages.begun
        far = self.options.physics.model == "far"
        return "stxm" if empty and far else "reconstruction"

    @torch.no_grad()
    def _shown(self, drawn: Drawn, box: Box) -> np.ndarray:
        """Return the object on a box; while it is empty, what is seen by scanning."""
        if self._rung == "reconstruction":
            return drawn.window(box).cpu().contiguous().numpy()
        light = self.probe.window(self._frame).abs().square().sum(0)
        seen = seen_by_scanning(self.exposures, light, box)
        n = self.options.object.slices
        each = torch.polar(seen.abs() ** (1 / n), seen.angle() / n)
        return each.expand(n, -1, -1).cpu().numpy()

    @torch.no_grad()
    def _probe_photons(self) -> np.ndarray:
        """Return the probe, modes orthogonal, in roots of photons."""
        with still(self.probe):
            probe: Tensor = self.probe.window(self._frame)
        probe = orthogonalise(probe) if len(probe) > 1 else probe
        if self.nuisance is not None:
            probe = probe * (self.nuisance.log_scale.detach() / 2).exp()
        return (probe * self.exposures.photons**0.5).cpu().numpy()

    def _make_room(self, reached: Box) -> None:
        """Let the object, and a challenger that learns now, hold what is looked at."""
        self._room = reached if self._room is None else self._room.union(reached)
        for learner in (self.stages.objects, self.engine.objects):
            learner.field.cover(reached)
        if self.halves is not None:
            self.halves.cover(reached)

    def _fit_held_out(self, fade: float) -> None:
        """Fit some held-out exposures near each other; nothing else sees them."""
        near = self.exposures.held_out_near(self._rng)
        if len(near):
            shown = self.predictor.shown(near, self.object, self.probe)
            self.engine.optics.fit(*shown, fade)

    def _new_sampler(self) -> Sampler:
        """Return a sampler whose batches suit the object's field."""
        e = self.options.engine
        wide = reach(self.options, network=self.stages.network)
        return Sampler(self.store, batch=e.batch, reach=wide, seed=e.seed)

    def _whole(self) -> Box:
        """Return the box of all that an exposure may look at."""
        return self._room or self._frame

    def _look(self) -> None:
        """Note which exposures are poorly fitted, and how much of that is noise.

        Pixels settle as far as what is left to learn is noise: rates that fall before
        cost 10 dB of phase on a clean scan, rates that stay 3 dB of amplitude at 10⁶
        photons a frame. By steps, so that the same steps give the same object.
        """
        still = self.trying or self.stages.waiting
        area_px = self._coverage.area_px()
        seen = self._looks.look(self.object, self.probe, area_px, still=still)
        explained = math.nan if seen is None else seen.explained
        self.health.look(explained, self.opening.chosen.waves)
        if seen is None:
            return
        self._sampler.saw(seen.loss, seen.arrivals)
        self.appraisal.saw(seen)
        for learner in (self.stages.objects, self.stages.probes):
            if isinstance(learner, PixelLearner):
                learner.calm = seen.noise
