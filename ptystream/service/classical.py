"""A file reconstructed by a classical engine, for warm starts and for comparison."""

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Complex
from torch import Tensor

from ptystream.buffers.store import is_held_out
from ptystream.config import Config
from ptystream.errors import ConfigError
from ptystream.models.field import Box
from ptystream.models.pixels import Pixels
from ptystream.publish.sink import RunEnd
from ptystream.recon.classical.engine import Engine
from ptystream.recon.classical.make import make, make_as_told
from ptystream.recon.classical.problem import Problem
from ptystream.recon.snapshot import Quality, Snapshot
from ptystream.service.first_object import Seen
from ptystream.service.offline import (
    REPORT_S,
    Acquired,
    Progress,
    training_threads,
)
from ptystream.service.scan import ScanRun
from ptystream.settings import RefineSettings
from ptystream.wire.messages import Exposure


def reconstruct(
    scan: Acquired,
    config: Config,
    name: str,
    *,
    run: str,
    progress: Callable[[Progress], None] = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
) -> tuple[ScanRun, Snapshot, RunEnd]:
    """Sweep as long as ``refine`` lets; return the state that predicts best.

    Held-out exposures are left out as in the live engine, and judge each second.

    Raises:
        ConfigError: no such engine, or the scan's geometry or shape can't be used.
    """
    scan_run = ScanRun(scan.start, config, run=run, extras=scan.extras)
    share = config.engine.held_out
    held = [e for e in scan.exposures if is_held_out(e.frame.index, share)]
    learned = [e for e in scan.exposures if not is_held_out(e.frame.index, share)]
    if not learned:
        raise ConfigError(f"engine.held_out {share}: nothing is left to learn from")
    with training_threads(config.engine.threads):
        problem = _problem(scan_run, scan.exposures, learned)
        engine = make_as_told(name, problem, config.classical)
        judge = _judge(problem, scan_run, held)
        began_s = time.monotonic()
        best, why = _best(
            engine,
            lambda loss: _snapshot(engine, problem, scan_run, judge, loss),
            config.refine,
            progress,
            stop,
        )
    return scan_run, best, RunEnd("complete", why, time.monotonic() - began_s)


def _best(
    engine: Engine,
    look: Callable[[float], Snapshot],
    refine: RefineSettings,
    progress: Callable[[Progress], None],
    stop: Callable[[], bool],
) -> tuple[Snapshot, str]:
    """Sweep, look each second; return the best seen, and why it ended."""
    began_s = told_s = time.monotonic()
    best: Snapshot | None = None
    while True:
        loss, now_s, stopped = engine.sweep(), time.monotonic(), stop()
        why = _over(refine, now_s - began_s, engine.sweeps)
        over = stopped or why
        if over or now_s - told_s >= REPORT_S:
            told_s = now_s
            snapshot = look(loss)
            progress(Progress(now_s - began_s, snapshot))
            best = snapshot if _beats(snapshot, best) else best
        if over and best is not None:
            return best, "stopped by the user" if stopped else why


def _over(refine: RefineSettings, spent_s: float, sweeps: int) -> str:
    """Return which limit is reached; empty while none is."""
    if spent_s >= refine.max_s:
        return f"the limit of {refine.max_s:g} s"
    if refine.max_steps is not None and sweeps >= refine.max_steps:
        return f"the limit of {refine.max_steps} sweeps"
    return ""


def _problem(
    scan_run: ScanRun, exposures: list[Exposure], learned: list[Exposure]
) -> Problem:
    """Return what the engine is given; the canvas holds held-out exposures as well."""
    corners = _corners(scan_run, exposures).round()
    y, x = (int(v) for v in corners.amin(0))
    bottom, right = (int(v) + scan_run.shape[0] for v in corners.amax(0))
    box, mask = Box(y, x, bottom - y, right - x), scan_run.extras.mask
    probe = scan_run.first_probe(learned).waves
    seen = Seen(probe.to(torch.complex64), _corners(scan_run, learned))
    return Problem(
        _amplitude(learned),
        seen.corners_px,
        seen.probe,
        object=_object(scan_run, box, seen),
        box=box,
        mask=None if mask is None else torch.from_numpy(mask),
    )


def _object(scan_run: ScanRun, box: Box, seen: Seen) -> Complex[Tensor, "h w"] | None:
    """Return what the object begins as on the canvas; None for empty space."""
    given = scan_run.extras.given_object
    if given is None:
        return None
    place, values = given.placed(scan_run.pixel_m, 1, seen)
    pixels = Pixels()
    pixels.write(place, values)
    pixels.cover(box)
    with torch.no_grad():
        return pixels.window(box)[0]


def _amplitude(exposures: list[Exposure]) -> Tensor:
    """Return √counts ``[n, k, k]``."""
    counts = np.stack([e.frame.counts for e in exposures]).astype(np.float32)
    return torch.from_numpy(np.sqrt(counts))


def _corners(scan_run: ScanRun, exposures: list[Exposure]) -> Tensor:
    """Return where each patch begins, (y, x) in object pixels, ``[n, 2]``."""
    places = np.array([e.mean_m for e in exposures]) / scan_run.pixel_m
    return torch.from_numpy(places - scan_run.shape[0] / 2)


def _judge(problem: Problem, scan_run: ScanRun, held: list[Exposure]) -> Engine | None:
    """Return an engine that sees held-out exposures, and never sweeps."""
    if not held:
        return None
    seen = replace(
        problem,
        amplitude=_amplitude(held),
        corner_px=_corners(scan_run, held),
        rescale=False,
    )
    return make("epie", seen)


def _error(judge: Engine | None, made: Complex[Tensor, "h w"], probe: Tensor) -> float:
    """Return Σ(a - A)² / ΣA² of held-out exposures; NaN without any."""
    if judge is None:
        return float("nan")
    judge.object, judge.probe = made, probe
    return judge.error()


def _snapshot(
    engine: Engine,
    problem: Problem,
    scan_run: ScanRun,
    judge: Engine | None,
    loss: float,
) -> Snapshot:
    """Return the state of the engine, judged."""
    pixel, box = scan_run.pixel_m, problem.canvas
    light = engine.probe.abs().square().sum(0)
    coverage = torch.zeros(box.h, box.w)
    size = len(light)
    for y, x in (problem.corner_px.round() - torch.tensor([box.y, box.x])).int():
        coverage[y : y + size, x : x + size] += (light / light.max()).float()
    dense = (coverage * engine.object.abs().square()).sum() / coverage.sum()
    flat = torch.full_like(engine.object, float(dense) ** 0.5)  # as much light
    quality = Quality(
        loss=loss,
        held_out_error=_error(judge, engine.object, engine.probe),
        flat_error=_error(judge, flat, engine.probe),
        covered=float((coverage > 0).float().mean()),
        probe_released=engine.learns_probe,
    )
    centres = problem.corner_px.numpy() + size / 2
    return Snapshot(
        object=engine.object[None].numpy().copy(),
        probe=engine.probe.numpy().copy(),
        coverage=coverage.numpy(),
        origin_m=(box.y * pixel[0], box.x * pixel[1]),
        pixel_m=pixel,
        positions_m=centres * pixel,
        step=engine.sweeps,
        exposures=len(problem.amplitude),
        rolled_back=engine.refused,
        quality=quality,
    )


def _beats(snapshot: Snapshot, best: Snapshot | None) -> bool:
    """Tell whether held-out exposures are predicted better; without any, the last."""
    if best is None:
        return True
    return not snapshot.quality.held_out_error >= best.quality.held_out_error
