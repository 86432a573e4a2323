"""One scan's life: first exposures, live reconstruction, refinement, the end.

No thread and no socket: the service and the offline command drive it alike.
"""

import dataclasses
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from ptystream import __version__
from ptystream.config import Config
from ptystream.errors import ConfigError, FileFormatError
from ptystream.physics.probes import ProbeGrid
from ptystream.publish.sink import RunEnd, RunInfo
from ptystream.recon import state
from ptystream.recon.options import ReconOptions
from ptystream.recon.reconstruction import FIRST, Reconstruction
from ptystream.recon.refine import Refiner, as_good
from ptystream.recon.setting import FirstProbe, Setting
from ptystream.recon.snapshot import Snapshot
from ptystream.recon.state import Learned, Tree
from ptystream.service.believed import (
    any_doubtful,
    doubtful_from,
    filled,
    has_light,
    usable,
)
from ptystream.service.extras import NO_EXTRAS, Extras
from ptystream.service.first_object import Seen
from ptystream.service.first_picture import first_picture
from ptystream.service.first_probe import ProbeSources
from ptystream.service.geometry import (
    documents_of,
    read_documents,
    resolve_geometry,
)
from ptystream.service.reach import Reach
from ptystream.service.room import made_to_fit
from ptystream.service.warm import Warm
from ptystream.wire.messages import Exposure, ScanStart

__all__ = ["NO_EXTRAS", "Extras", "ScanRun"]

log = logging.getLogger(__name__)

Watch = Literal["error", "likelihood"]


class ScanRun:
    """Takes exposures, steps, and says when it is done. One thread owns it."""

    def __init__(
        self,
        start: ScanStart,
        config: Config,
        *,
        run: str,
        extras: Extras = NO_EXTRAS,
        warm: Warm | None = None,
        learned: Learned | None = None,
        began_s: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Check that the scan can be reconstructed.

        ``warm`` has what the scans before left, if anything is to be handed on;
        ``learned`` what this run had before the service ended, and ``began_s`` when
        it began (wall time; None: now).

        Raises:
            ConfigError: geometry is missing, or the patterns have no usable shape.
        """
        self.start, self.config, self.extras = start, config, extras
        self._clock, self._warm, self._learned = clock, warm, learned
        self.geometry = resolve_geometry(start, config)
        self.shape = usable_shape(start)
        began_s = time.time() if began_s is None else began_s
        self.info = RunInfo(run, start.scan, began_s, self._provenance())
        self.recon: Reconstruction | None = None
        self._first: list[Exposure] = []
        self._reach: Reach | None = None
        self.far = self.dark = 0
        self.note = ""
        """What is to be known of the run, if anything."""
        self._refiner: Refiner | None = None
        self._reason = self._enough = ""
        self._last_frame_s = self._checked_s = clock()
        self._best: Snapshot | None = None

    def add(self, exposure: Exposure) -> None:
        """Take one exposure; the first few decide the scale of the data.

        ``far`` counts those too far from the rest to have been taken there, ``dark``
        those without one photon: the shutter was closed, and they teach nothing.
        """
        self._last_frame_s = self._clock()
        counts = exposure.frame.counts
        if not has_light(counts, self._doubtful(counts.dtype)):
            self.dark += 1
            return
        if self.recon is not None:
            self._give(exposure)
            return
        self._first.append(exposure)
        if len(self._first) >= FIRST:
            self._begin()

    def step(self) -> bool:
        """Learn from one batch; False if there is nothing to learn from."""
        if self.recon is None or self.done:
            return False
        refiner = self._refiner
        if refiner is None:
            return self.recon.step() is not None
        before = self.recon.engine.steps
        stats = self.recon.step(fade=refiner.fade, live=False)
        if self.recon.engine.steps > before:
            refiner.stepped()
        now_s = self._clock()
        if now_s - self._checked_s >= self.config.refine.check_s or stats is None:
            self._check(refiner, now_s)
        return stats is not None

    def end(self, reason: str) -> None:
        """Note that no exposure comes any more; refine from now on.

        The first end counts: of a scan that was enough, the stream's own comes later.
        """
        if self._refiner is not None:
            return
        if self._first and self.recon is None:
            self._begin()
        self._reason = reason
        r = self.config.refine
        self._refiner = Refiner(
            self._clock(),
            max_s=r.max_s,
            patience_s=r.patience_s,
            gain=r.gain,
            max_steps=r.max_steps,
        )
        self._checked_s = self._clock()

    def cut(self, why: str, *, reason: str = "aborted") -> None:
        """Stop refining at once; ``reason`` is the end of a scan that had none yet."""
        if self._refiner is None:
            self.end(reason)
        if self._refiner is not None and self._refiner.why is None:
            self._refiner.why = why

    def enough(self, why: str, *, refine: bool) -> None:
        """End the scan as complete, whatever is missing: somebody has seen enough."""
        self.end("complete")
        self._reason, self._enough = "complete", why
        if not refine:
            self.cut(why)

    @property
    def done(self) -> bool:
        """Whether nothing is left to do but to keep the result."""
        if self._refiner is None:
            return False
        return self._refiner.why is not None or self.recon is None

    @property
    def phase(self) -> str:
        """``waiting`` for the first exposures, ``live``, ``refining`` or ``done``."""
        if self._refiner is None:
            return "waiting" if self.recon is None else "live"
        return "done" if self.done else "refining"

    def snapshot(self) -> Snapshot | None:
        """Return the reconstruction as it stands; before it, what scanning shows.

        None while there is nothing to show.
        """
        if self.recon is not None:
            return self.recon.snapshot()
        return self._early() if self._first else None

    def learned(self) -> Tree | None:
        """Return what can be gone on from, on the host; None while there is nothing."""
        return None if self.recon is None else state.learned(self.recon)

    def result(self) -> tuple[Snapshot | None, RunEnd]:
        """Return the best state seen while refining, and how it all ended."""
        last = self.snapshot()
        best = self._best
        watch = self.config.refine.watch
        if last is not None:
            best = with_last(best, last) if is_better(best, last, watch) else last
        why = self._refiner.why if self._refiner else None
        if self._enough and why != self._enough:
            why = f"{why or 'nothing to refine'}, after {self._enough}"
        why = why or "nothing to refine"
        if self.recon is not None and not self.recon.opening.done:
            why += ", with first probes still compared: nothing was learned"
        waited = max(0.0, self._clock() - self._last_frame_s)
        return best, RunEnd(self._reason, why, waited)

    def _early(self) -> Snapshot | None:
        """Return the picture of too few exposures; None if they can't be used."""
        if self.config.physics.model != "far":
            return None
        reach = self._reach_of(self._first)
        near = [e for e in self._first if reach.takes(e.mean_m)]
        try:
            return first_picture(self._setting(near), near) if near else None
        except ConfigError:
            return None  # said when the reconstruction is to begin

    def _check(self, refiner: Refiner, now_s: float) -> None:
        """Measure, and keep the state if none before was better than by chance."""
        self._checked_s = now_s
        snapshot = self.snapshot()
        watch = self.config.refine.watch
        error = watched(snapshot, watch) if snapshot else float("nan")
        steps = snapshot.step if snapshot else 0
        recon = self.recon
        still = recon is not None and recon.trying
        awaited = recon is not None and recon.health.pressing
        now_s = self._clock()  # a snapshot takes its time
        if refiner.saw(error, now_s, steps, still=still, awaited=awaited):
            self._best = snapshot

    def _begin(self) -> None:
        """Build the reconstruction from the first exposures, and give them to it."""
        first, self._first = self._first, []
        setting, self._reach = self._setting(first), self._reach_of(first)
        self.recon = recon = self._made(setting)
        patterns = np.stack([e.frame.counts for e in first])
        doubtful = self._doubtful(patterns.dtype)
        if any_doubtful(patterns, doubtful, setting.mask):
            recon.exposures.doubt(doubtful)
        given = self.extras.given_object
        if given is not None and self._learned is None:
            places = np.array([e.mean_m for e in first]) / setting.pixel_m
            corners = torch.from_numpy(places - self.shape[0] / 2)
            seen, slices = Seen(setting.probe, corners), self.config.object.slices
            placed = given.placed(setting.pixel_m, slices, seen)
            recon.stages.begin(*placed)
        for exposure in first:
            self._give(exposure)

    def _made(self, setting: Setting) -> Reconstruction:
        """Return a reconstruction that fits; where it stood, if this run was resumed.

        Raises:
            ConfigError: there is no memory for it.
        """

        def make(options: ReconOptions) -> Reconstruction:
            if self._learned is not None:
                try:
                    return self._learned.made(setting, options)
                except FileFormatError as error:
                    log.error("the scan begins anew: its checkpoint has a %s", error)
                    self._learned = None
            return Reconstruction(setting, options)

        recon = made_to_fit(make, self.config.recon())
        asked, got = self.config.engine.store, recon.store.capacity
        if got < asked:
            self.note = f"engine.store = {asked}: no memory, so it is {got}"
        return recon

    def _setting(self, first: list[Exposure]) -> Setting:
        """Return what the data are, by the first exposures."""
        patterns = np.stack([e.frame.counts for e in first])
        doubtful = self._doubtful(patterns.dtype)
        probe = self.first_probe(first)
        return Setting(
            size=self.shape[0],
            pixel_m=self.pixel_m,
            probe=probe.waves,
            mask=usable(patterns, doubtful, self.extras.mask),
            wide=any(e.frame.counts.dtype.itemsize > 2 for e in first),
            wavelength_m=self.geometry.wavelength_m,
            distance_m=self.geometry.distance_m,
            origin=probe.origin,
            last=self._warm.offer(self.geometry, self.shape) if self._warm else None,
        )

    def _reach_of(self, first: list[Exposure]) -> Reach:
        """Return how far the object may grow from the middle of the first."""
        y, x = np.median([e.mean_m for e in first], axis=0).tolist()
        most_mpx = self.config.scan.max_object_mpx
        return Reach((y, x), self.pixel_m, self.shape, most_mpx)

    def _give(self, exposure: Exposure) -> None:
        """Hand an exposure to the reconstruction."""
        frame, recon, reach = exposure.frame, self.recon, self._reach
        if recon is None or reach is None or frame.counts.shape != self.shape:
            raise ConfigError(
                f"frame {frame.index}: shape {frame.counts.shape}, "
                f"expected {self.shape} as its scan's start said"
            )
        if recon.exposures.physics.saturated is None:
            doubtful = self._doubtful(frame.counts.dtype)
            if any_doubtful(frame.counts, doubtful, recon.setting.mask):
                recon.exposures.doubt(doubtful)
        if reach.takes(exposure.mean_m):
            path_m = exposure.start_m, exposure.end_m
            recon.add(
                frame.index,
                frame.counts,
                exposure.mean_m,
                path_m,
                monitor=exposure.monitor,
            )
            if self._learned is not None:
                self._learned.after(recon, frame.index)
        else:
            self.far += 1

    def _doubtful(self, dtype: np.dtype) -> int:
        """Return the counts from which a pixel isn't believed."""
        told = self.config.physics.saturated
        return doubtful_from(dtype, self.start.meta, told)

    def first_probe(self, first: list[Exposure]) -> FirstProbe:
        """Return the first guess of the probe, from where the settings say."""
        patterns = np.stack([e.frame.counts for e in first])
        grid = ProbeGrid(self.shape, self.pixel_m, self.geometry.wavelength_m)
        sources = ProbeSources(self.start, self.config, self.extras, grid)
        return sources.first(filled(patterns, self._doubtful(patterns.dtype)))

    @property
    def pixel_m(self) -> tuple[float, float]:
        """Return the object's pixel (y, x)."""
        physics = self.config.physics
        if physics.model == "far":
            return self.geometry.object_pixel_m(self.shape)
        y, x = self.geometry.detector_pixel_m
        return y / physics.magnification, x / physics.magnification

    def _provenance(self) -> dict[str, Any]:
        """Return what another needs to make this result again; safe as JSON."""
        found = read_documents(documents_of(self.start.meta), self.config)
        return {
            "software": f"ptystream {__version__}",
            "config": self.config.model_dump(mode="json"),
            "seed": self.config.engine.seed,
            "geometry": dataclasses.asdict(self.geometry),
            "origins": dict(self.geometry.origins),
            "documents": {name: dataclasses.asdict(v) for name, v in found.items()},
            "scan": dict(self.start.meta),
            **self._recording(),
        }

    def _recording(self) -> dict[str, Any]:
        """Return on which tape the scan is, if one is written beside the service."""
        tape = self.config.checkpoint.tape
        if tape is None:
            return {}
        file = str(Path(tape).absolute())
        return {"input": {"file": file, "scan": self.start.scan, "sha256": {}}}


def with_last(best: Snapshot | None, last: Snapshot) -> Snapshot | None:
    """Return the best with what the last knows of the run: resolution, health."""
    if best is None:
        return None
    quality = dataclasses.replace(
        best.quality,
        resolution_m=last.quality.resolution_m,
        converged=last.quality.converged,
    )
    return dataclasses.replace(best, quality=quality, frc=last.frc, health=last.health)


def is_better(best: Snapshot | None, other: Snapshot, watch: Watch = "error") -> bool:
    """Tell whether ``best`` predicts held-out exposures better than by chance."""
    if best is None:
        return False
    return not as_good(watched(other, watch), watched(best, watch))


def watched(snapshot: Snapshot, watch: Watch) -> float:
    """Return what refining is to make smaller, of held-out exposures."""
    quality = snapshot.quality
    return quality.held_out_error if watch == "error" else quality.held_out_nll


def usable_shape(start: ScanStart) -> tuple[int, int]:
    """Return the shape of the patterns; raise ConfigError unless square and even."""
    shape = start.shape
    if shape is None or shape[0] != shape[1] or shape[0] % 2:
        raise ConfigError(
            f"scan {start.scan}: patterns of shape {shape}, expected square and even; "
            f"set detector.crop or detector.preprocess.size"
        )
    return shape
