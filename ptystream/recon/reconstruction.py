"""A scan's reconstruction: exposures, sampler, engine and quality; one thread's."""

import math

import numpy as np
import torch
from torch import Tensor

from ptystream.buffers.sampling import Mix, Sampler
from ptystream.buffers.store import FrameStore, StoreStats
from ptystream.models.field import Box, Field
from ptystream.physics.constraints import orthogonalise
from ptystream.recon.build import nuisance, optics, pick_device, prior, reach
from ptystream.recon.coverage import Coverage
from ptystream.recon.engine import Engine, Rates, StepStats
from ptystream.recon.exposures import FIRST, Exposures
from ptystream.recon.hold import still
from ptystream.recon.learners import PixelLearner
from ptystream.recon.nuisance import Nuisance
from ptystream.recon.options import ReconOptions
from ptystream.recon.predictor import Predictor
from ptystream.recon.setting import Setting
from ptystream.recon.snapshot import Quality, Snapshot
from ptystream.recon.stages import Stages

__all__ = ["FIRST", "Reconstruction", "Setting"]

LOOK = 50
"""Steps between two looks at what is poorly fitted; each costs about one step."""
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
        self._sampler = self._new_sampler()
        self._rng = np.random.default_rng(e.seed)
        self._frame = Box(0, 0, setting.size, setting.size)
        self._coverage = Coverage(setting.size, self.device)
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

    def step(self, *, fade: float = 1.0, live: bool = True) -> StepStats | None:
        """Learn from one batch; None while there is too little to learn from.

        Args:
            fade: scales every rate; below 1 while refining.
            live: fresh and poorly fitted exposures come first; else all alike.
        """
        if self.exposures.count < FIRST:
            return None
        slots = self._sampler.pick(Mix() if live else Mix(fresh=0.0, poor=0.1))
        if not len(slots):
            return None
        rates = Rates(fade, self.released and not self.options.probe.known)
        stats = self.engine.step(self.exposures.batch(slots), rates)
        at = torch.from_numpy(slots).to(self.device, non_blocking=True)
        self.store.loss[at] = stats.by_pattern
        self._last = stats
        if self.nuisance is not None and self.engine.steps % FITTED == 0:
            self._fit_held_out(fade)
        if self.engine.steps % LOOK == 0:
            self._look()
        judge = self.predictor.judged if self.released else None
        if self.stages.advance(self.engine, self._whole(), judge):
            self._sampler = self._new_sampler()
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

    def measure(self) -> Quality:
        """Predict held-out exposures; waits for the device."""
        if self._last is None:
            return Quality()
        held = self.exposures.held_out()
        total = self.predictor.misfit(held, self.object, self.probe)
        loss, covered = float(self._last.loss), self._coverage.share()
        if total is None:
            return Quality(loss, covered=covered, probe_released=self.released)
        power = float(total.power)
        return Quality(
            loss=loss,
            held_out_error=float(total.error) / power,
            flat_error=float(total.flat) / power,
            noise_error=float(total.noise) / power,
            held_out_nll=float(total.deviance) / total.pixels,
            covered=covered,
            probe_released=self.released,
        )

    def snapshot(self) -> Snapshot | None:
        """Return the reconstruction as it stands, or the last one that was finite."""
        if self._box is None or self.exposures.count < FIRST:
            return None
        with torch.no_grad(), still(self.object, self.probe):
            made = self.object.window(self._box).cpu().numpy()
        probe = self._probe_photons()
        if not (np.isfinite(made).all() and np.isfinite(probe).all()):
            return self._good
        pixel = self.setting.pixel_m
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
            quality=self.measure(),
        )
        return self._good

    def store_stats(self) -> StoreStats:
        """Return what the store holds."""
        return self.store.stats()

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
        self._sampler.loss = self.store.loss.cpu().numpy()
        held = self.exposures.held_out()
        total = self.predictor.misfit(held, self.object, self.probe)
        share = 1.0 if total is None else float(total.noise / total.error)
        for learner in (self.stages.objects, self.stages.probes):
            if isinstance(learner, PixelLearner):
                learner.calm = share if 0 <= share < 1 else 1.0
