"""Processor time until the default is as good as the papers' own recipes become.

Each recipe runs for a set time on the dense scan of ``tools/bench live``; then the
default runs on the same frames until its amplitude and its phase are as good. Only
steps are timed, not what it takes to score them. The truth goes to the scorer only.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from ptystream.config import Config, load
from ptystream.presets import read_preset
from ptystream.service.offline import Acquired, training_threads
from ptystream.service.scan import ScanRun
from ptystream.sim.experiment import build
from ptystream.sim.truth import Truth
from tools.benchmarks.demo_scan import Picture, acquired, scored
from tools.benchmarks.figures import Figure
from tools.benchmarks.live_scans import SCANS

RECIPES = ("ptyinr", "dgp")
SECONDS, QUICK_S = 600.0, 60.0
TARGET = 1 / 50
FIRST_LOOK_S, FURTHER = 0.5, 1.2
"""The default is scored after so many processor seconds, then at so many times as
many."""
NEVER_S = 1e6


def papers_race(quick: bool) -> Iterator[Figure]:
    """Yield each recipe's score, both processor times, and the default's share."""
    limit_s = QUICK_S if quick else SECONDS
    experiment = build(SCANS["dense"].settings())
    scan, _ = acquired(experiment)
    for recipe in RECIPES:
        goal, cpu_s = _best_of(recipe, scan, experiment.truth, limit_s)
        name = f"dense scan, {recipe} after {limit_s:g} s"
        yield Figure(f"{name}, amplitude", goal.amplitude_db, "dB PSNR")
        yield Figure(f"{name}, phase", goal.phase_db, "dB PSNR")
        yield Figure(f"{name}, processor time", cpu_s, "s")
        ours_s = _as_good(goal, scan, experiment.truth, limit_s)
        yield Figure(f"dense scan, default as good as {recipe}", ours_s, "s")
        yield Figure(f"default's time / {recipe}'s", ours_s / cpu_s, "x", TARGET)


def _best_of(
    recipe: str, scan: Acquired, truth: Truth, limit_s: float
) -> tuple[Picture, float]:
    """Return what a recipe reaches in so much time, and the processor time of it."""
    limits = [f"refine.max_s={NEVER_S}", f"refine.check_s={NEVER_S}"]
    presets = [read_preset("recipes", recipe)]
    run, watch = _begun(scan, load(environment={}, presets=presets, flags=limits))
    began_s = time.monotonic()
    _train(run, watch, lambda: time.monotonic() - began_s >= limit_s)
    return scored(recipe, run.snapshot(), truth), watch.spent_s


def _as_good(goal: Picture, scan: Acquired, truth: Truth, limit_s: float) -> float:
    """Return processor seconds until the default is as good; NaN if it never is."""
    limits = [f"refine.max_s={limit_s}", "engine.threads=1"]
    run, watch = _begun(scan, load(environment={}, flags=limits))
    look_s, reached = FIRST_LOOK_S, False

    def enough() -> bool:
        nonlocal look_s, reached
        if watch.spent_s < look_s:
            return False
        look_s *= FURTHER
        now = scored("default", run.snapshot(), truth)
        reached = (
            now.amplitude_db >= goal.amplitude_db and now.phase_db >= goal.phase_db
        )
        return reached

    _train(run, watch, enough)
    return watch.spent_s if reached else float("nan")


class Watch:
    """The processor seconds of a run's steps: its clock, which scoring doesn't move."""

    def __init__(self) -> None:
        self.spent_s = 0.0

    def __call__(self) -> float:
        """Return the time in seconds."""
        return self.spent_s


def _begun(scan: Acquired, config: Config) -> tuple[ScanRun, Watch]:
    """Return a run that has taken in the whole scan, and its clock."""
    engine = replace(config.engine, store=max(config.engine.store, len(scan.exposures)))
    config = config.model_copy(update={"engine": engine})
    watch = Watch()
    extras = scan.extras
    run = ScanRun(scan.start, config, run="bench-race", extras=extras, clock=watch)
    for exposure in scan.exposures:
        run.add(exposure)
    run.end("complete")
    return run, watch


def _train(run: ScanRun, watch: Watch, enough: Callable[[], bool]) -> None:
    """Step until it is enough, or done."""
    with training_threads(run.config.engine.threads):
        while not run.done and not enough():
            before_s = time.process_time()
            run.step()
            watch.spent_s += time.process_time() - before_s
