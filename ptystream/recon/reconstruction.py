"""A scan's reconstruction: store, sampler, engine and quality; one thread owns it."""

import math
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ptystream.buffers.sampling import Mix, Sampler
from ptystream.buffers.store import FrameStore, StoreStats
from ptystream.models.field import Box, Field
from ptystream.physics.constraints import orthogonalise
from ptystream.recon.build import nuisance, optics, pick_device, prior, reach
from ptystream.recon.contest import Side, Verdict
from ptystream.recon.coverage import Coverage
from ptystream.recon.engine import Batch, Engine, Rates, StepStats, reached
from ptystream.recon.hold import still
from ptystream.recon.learners import PixelLearner
from ptystream.recon.optics import Shots
from ptystream.recon.options import ReconOptions
from ptystream.recon.quality import Misfit, misfit
from ptystream.recon.setting import Setting
from ptystream.recon.snapshot import Quality, Snapshot
from ptystream.recon.stages import Stages

__all__ = ["FIRST", "Reconstruction", "Setting"]

FIRST = 8
"""Exposures needed before the scale of the data is known and learning begins."""
MEASURED = 64
"""Held-out exposures looked at each time the quality is measured."""
LOOK = 50
"""Steps between two looks at what is poorly fitted; each costs about one step."""
FITTED = 4
"""Steps between two fits of held-out exposures' own places and brightness."""
ON_GRID_PX = 1e-3
"""Positions nearer to the pixel grid than this need no shift of the probe."""


class Reconstruction:
    """Takes exposures as they come and steps whenever asked."""

    def __init__(self, setting: Setting, options: ReconOptions) -> None:
        e = options.engine
        torch.manual_seed(e.seed)
        self.options, self.setting = options, setting
        self.device = pick_device(e.device)
        self.store = FrameStore(
            e.store,
            setting.size,
            held_out_share=e.held_out,
            wide=setting.wide,
            device=self.device,
        )
        mask = setting.mask
        self.mask = None if mask is None else torch.from_numpy(mask).to(self.device)
        self.nuisance = nuisance(options, self.device)
        self.stages = Stages(options, setting.probe, self.device)
        self._margin = 0
        if self.nuisance is not None:
            self._margin = math.ceil(options.nuisance.position_bound_px) + 1
        self.engine = Engine(
            self.stages.objects,
            self.stages.probes,
            optics(options, setting, self.device, self.nuisance),
            size=setting.size,
            damping=e.damping,
            mask=self.mask,
            prior=prior(options),
            margin_px=self._margin,
        )
        self._sampler = self._new_sampler()
        self._rng = np.random.default_rng(e.seed)
        self._path_px: np.ndarray | None = None
        if options.physics.fly_points > 1:
            self._path_px = np.zeros((e.store, 2, 2))
        self._frame = Box(0, 0, setting.size, setting.size)
        self._monitor = np.full(e.store, np.nan)
        self._coverage = Coverage(setting.size, self.device)
        self._box: Box | None = None
        self._room: Box | None = None
        self._photons, self._unit = 0.0, 1.0
        self._exposures = 0
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
        place = np.asarray(position_m) / self.setting.pixel_m
        slot = self.store.put(index, counts, place)
        if self.nuisance is not None:
            trained = not self.store.held_out[slot]
            self.nuisance.place(slot, place, trained=trained)
        self._monitor[slot] = monitor if monitor > 0 else math.nan
        self._exposures += 1
        corner = np.round(place - self.setting.size / 2).astype(np.int64)
        y, x = (int(v) for v in corner)
        box = Box(y, x, self.setting.size, self.setting.size)
        self._box = box if self._box is None else self._box.union(box)
        self._make_room(self._reached(slot, corner, path_m))
        self._coverage.add(place, box, lambda: self.probe.window(self._frame))
        if self._exposures <= FIRST:
            self._weigh()

    def step(self, *, fade: float = 1.0, live: bool = True) -> StepStats | None:
        """Learn from one batch; None while there is too little to learn from.

        Args:
            fade: scales every rate; below 1 while refining.
            live: fresh and poorly fitted exposures come first; else all alike.
        """
        if self._exposures < FIRST:
            return None
        slots = self._sampler.pick(Mix() if live else Mix(fresh=0.0, poor=0.1))
        if not len(slots):
            return None
        rates = Rates(fade, self.released and not self.options.probe.known)
        stats = self.engine.step(self._batch(slots), rates)
        at = torch.from_numpy(slots).to(self.device, non_blocking=True)
        self.store.loss[at] = stats.by_pattern
        self._last = stats
        if self.nuisance is not None and self.engine.steps % FITTED == 0:
            self._fit_held_out(fade)
        if self.engine.steps % LOOK == 0:
            self._look()
        judge = self._judged if self.released else None
        if self.stages.advance(self.engine, self._whole(), judge):
            self._sampler = self._new_sampler()
        return stats

    @property
    def trying(self) -> bool:
        """Whether a challenger learns, and what is published stands still."""
        return self.engine.objects is not self.stages.objects

    def doubt(self, counts: int) -> None:
        """Leave pixels of so many counts and more out from now on, frame by frame."""
        physics = replace(self.options.physics, saturated=counts)
        self.options = replace(self.options, physics=physics)

    @property
    def released(self) -> bool:
        """Whether the scan is wide enough both ways to tell probe from object."""
        if self._exposures < FIRST:
            return False
        return self._coverage.width >= self.options.probe.release

    def measure(self) -> Quality:
        """Predict held-out exposures; waits for the device."""
        if self._last is None:
            return Quality()
        total = self._misfit(self._held_out())
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
        if self._box is None or self._exposures < FIRST:
            return None
        with torch.no_grad(), still(self.object, self.probe):
            made = self.object.window(self._box).cpu().numpy()
            probe = self.probe.window(self._frame)
        probe = orthogonalise(probe) if len(probe) > 1 else probe
        if self.nuisance is not None:
            probe = probe * (self.nuisance.log_scale.detach() / 2).exp()
        probe = (probe * self._photons**0.5).cpu().numpy()
        if not (np.isfinite(made).all() and np.isfinite(probe).all()):
            return self._good
        pixel = self.setting.pixel_m
        self._good = Snapshot(
            object=made,
            probe=probe,
            coverage=self._coverage.picture(self._box),
            origin_m=(self._box.y * pixel[0], self._box.x * pixel[1]),
            pixel_m=pixel,
            positions_m=self._positions_px() * pixel,
            step=self.engine.steps,
            exposures=self._exposures,
            rolled_back=self.engine.refused(),
            quality=self.measure(),
        )
        return self._good

    def store_stats(self) -> StoreStats:
        """Return what the store holds."""
        return self.store.stats()

    def _make_room(self, reached: Box) -> None:
        """Let the object, and a challenger that learns now, hold what is looked at."""
        self._room = reached if self._room is None else self._room.union(reached)
        for learner in (self.stages.objects, self.engine.objects):
            learner.field.cover(reached)

    def _weigh(self) -> None:
        """Find the photons to an amplitude of 1 from the first exposures."""
        told = self._monitor[: self.store.frames]
        told = told[~np.isnan(told)]
        self._unit = float(told.mean()) if len(told) else 1.0
        slots = torch.arange(self.store.frames, device=self.device)
        light = self.store.amplitude(slots).square()
        used = torch.ones_like(light, dtype=torch.bool)
        if self.options.physics.saturated is not None:
            used = light < self.options.physics.saturated - 0.5
        if self.mask is not None:
            used &= self.mask
        self._photons = max(float(light[used].mean()), 1e-12)

    def _batch(self, slots: np.ndarray) -> Batch:
        """Gather exposures: amplitudes in the engine's gauge, corners and shifts."""
        corner = self.store.position_px[slots] - self.setting.size / 2
        whole = np.round(corner)
        beside = corner - whole
        at = torch.from_numpy(slots).to(self.device, non_blocking=True)
        shift = None
        if np.abs(beside).max() > ON_GRID_PX:
            shift = torch.from_numpy(beside).float().to(self.device, non_blocking=True)
        amplitude = self.store.amplitude(at).mul_(self._photons**-0.5)
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

    def _believed(
        self, amplitude: Float[Tensor, "b k k"]
    ) -> Bool[Tensor, "b k k"] | None:
        """Return which pixels are below saturation; None where all are believed."""
        saturated = self.options.physics.saturated
        if saturated is None:
            return None
        below = amplitude < ((saturated - 0.5) / self._photons) ** 0.5
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
        low, high = reached(corner[None], path, self._margin)
        h, w = (int(v) for v in high[0] - low[0] + self.setting.size)
        return Box(int(low[0, 0]), int(low[0, 1]), h, w)

    def _positions_px(self) -> np.ndarray:
        """Return where the exposures in the store were taken, as refined."""
        given = self.store.position_px[: self.store.frames]
        if self.nuisance is None:
            return given
        slots = torch.arange(len(given), device=self.device)
        with torch.no_grad():
            return given + self.nuisance.moves(slots).cpu().numpy()

    def _fit_held_out(self, fade: float) -> None:
        """Fit some held-out exposures near each other; nothing else sees them."""
        held = np.flatnonzero(self.store.held_out[: self.store.frames])
        if not len(held):
            return
        place = self.store.position_px[held]
        centre = place[self._rng.integers(len(held))]
        away = np.abs(place - centre).max(1)
        near = held[np.argsort(away)[:16]]
        near = near[np.sort(away)[:16] <= self.setting.size]
        window, probe, shots = self._shown(near)
        self.engine.optics.fit(window, probe, shots, fade)

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
        total = self._misfit(self._held_out())
        share = 1.0 if total is None else float(total.noise / total.error)
        for learner in (self.stages.objects, self.stages.probes):
            if isinstance(learner, PixelLearner):
                learner.calm = share if 0 <= share < 1 else 1.0

    def _judged(self, side: Side, judges: np.ndarray | None) -> Verdict:
        """Return how a side predicts held-out exposures, and which they were.

        Slots are used again: exposures are known by their number of arrival.
        """
        slots, order = self._held_out(), self.store.order[: self.store.frames]
        if judges is not None:
            slots = np.flatnonzero(np.isin(order, judges))
            slots = slots[np.argsort(order[slots])]
        total = self._misfit(slots, (side.objects.field, side.probes.field))
        if total is None:
            return Verdict(math.nan, math.nan, order[slots])
        return Verdict(float(total.error), float(total.noise), order[slots])

    def _held_out(self) -> np.ndarray:
        """Return slots of held-out exposures, spread over the scan."""
        held = np.flatnonzero(self.store.held_out[: self.store.frames])
        held = held[np.argsort(self.store.order[held])]
        some = np.linspace(0, len(held) - 1, min(len(held), MEASURED))
        return held[some.astype(int)]

    def _misfit(
        self, held: np.ndarray, seen: tuple[Field, Field] | None = None
    ) -> Misfit | None:
        """Sum the misfit of held-out exposures, in batches that lie together.

        ``seen`` is object and probe, None those that are shown.
        """
        total = None
        for start in range(0, len(held), 16):
            part = self._misfit_of(held[start : start + 16], seen)
            total = part if total is None else total.plus(part)
        return total

    def _misfit_of(self, slots: np.ndarray, seen: tuple[Field, Field] | None) -> Misfit:
        """Return the misfit of one batch."""
        window, probe, shots = self._shown(slots, seen)
        see = self.engine.optics.predict
        return misfit(
            see(window, probe, shots),
            see(torch.ones_like(window), probe, shots),
            shots.patterns.amplitude,
            photons=self._photons,
            mask=shots.patterns.mask,
        )

    @torch.no_grad()
    def _shown(
        self, slots: np.ndarray, seen: tuple[Field, Field] | None = None
    ) -> tuple[Tensor, Tensor, Shots]:
        """Return what exposures see: object window and probe; and the exposures."""
        box, shots = self.engine.place(self._batch(slots))
        objects, probe = seen or (self.object, self.probe)
        with still(objects, probe):
            return objects.window(box), probe.window(self._frame), shots
