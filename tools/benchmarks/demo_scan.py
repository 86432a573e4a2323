"""How close a live reconstruction comes to the same frames reconstructed offline.

The scan is the demo's, paced as the demo paces it, without sockets: exposures are
given to the reconstruction when they would have arrived, and it steps in between. The
truth goes to the scorer only.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ptystream.config import Config
from ptystream.recon.score import Image, score
from ptystream.recon.snapshot import Snapshot
from ptystream.service.offline import Acquired, reconstruct, training_threads
from ptystream.service.scan import ScanRun
from ptystream.settings import RefineSettings
from ptystream.sim.experiment import Experiment, build
from ptystream.sim.settings import SimulateSettings, preset
from ptystream.sim.truth import Truth
from ptystream.wire.messages import Exposure, Frame, ScanStart
from tools.benchmarks.figures import Figure

AFTER_S = 2.0
LIVE_SHORT_DB = 1.0
"""By how much the live picture, ``AFTER_S`` after the last frame, may fall short."""


@dataclass(frozen=True)
class Picture:
    """A snapshot, when it was taken, and how good it is."""

    when: str
    amplitude_db: float
    phase_db: float


def demo_scan(quick: bool) -> Iterator[Figure]:
    """Yield PSNR (shift and ramp aligned) at the last frame, 2 s later, at the end."""
    settings = _settings(quick)
    experiment = build(settings)
    scan, due_s = acquired(experiment)
    seen = _live(scan, due_s, _config(10.0 if quick else 20.0))
    offline = _config(20.0 if quick else 60.0)
    _, seen["offline"], _ = reconstruct(scan, offline, run="bench-offline")
    pictures = {when: scored(when, s, experiment.truth) for when, s in seen.items()}
    yield from _figures(pictures)


def _figures(pictures: dict[str, Picture]) -> Iterator[Figure]:
    for when, picture in pictures.items():
        yield Figure(f"demo scan, amplitude, {when}", picture.amplitude_db, "dB PSNR")
        yield Figure(f"demo scan, phase, {when}", picture.phase_db, "dB PSNR")
    best, live = pictures["offline"], pictures["2 s later"]
    for name, short_db in (
        ("amplitude", best.amplitude_db - live.amplitude_db),
        ("phase", best.phase_db - live.phase_db),
    ):
        label = f"demo scan, {name}, offline over live 2 s later"
        yield Figure(label, short_db, "dB", target=LIVE_SHORT_DB)


def _config(refine_s: float) -> Config:
    """Return the defaults: live and offline train with as many threads."""
    return Config(refine=RefineSettings(max_s=refine_s))


def _settings(quick: bool) -> SimulateSettings:
    """Return the demo's scan, or a corner of it at three times the pace."""
    if not quick:
        return preset("demo")
    return preset("demo", {"scan": {"shape": [16, 16], "rate_hz": 300.0}})


def acquired(experiment: Experiment) -> tuple[Acquired, np.ndarray]:
    """Return the scan as the service would see it, and when each exposure arrives."""
    settings = experiment.settings
    per_frame = settings.encoder.per_frame
    read_m = experiment.samples_m(0).reshape(-1, per_frame, 2)
    exposures = [
        Exposure(
            Frame("bench", index, counts),
            start_m=_point(rows[0]),
            mean_m=_point(rows.mean(0)),
            end_m=_point(rows[-1]),
        )
        for index, (counts, rows) in enumerate(
            zip(experiment.frames(0), read_m, strict=True)
        )
    ]
    side = settings.detector.size_px
    start = ScanStart(
        "bench",
        "det",
        shape=(side, side),
        dtype="<u2",
        frames_expected=len(exposures),
        geometry=experiment.geometry,
        meta=experiment.meta,
    )
    due_s = experiment.track.end_s(
        1 / settings.scan.rate_hz, settings.scan.line_pause_s
    )
    return Acquired(start, exposures), due_s


def _live(
    scan: Acquired, due_s: np.ndarray, config: Config
) -> dict[str, Snapshot | None]:
    """Reconstruct while the exposures arrive; return what stood at which moment."""
    run = ScanRun(scan.start, config, run="bench-live")
    with training_threads(config.engine.threads):
        began_s, given = time.monotonic(), 0
        while given < len(due_s):
            arrived = int(np.searchsorted(due_s, time.monotonic() - began_s))
            for exposure in scan.exposures[given:arrived]:
                run.add(exposure)
            given = max(given, arrived)
            if not run.step():
                time.sleep(0.001)
        seen = {"last frame": run.snapshot()}
        run.end("complete")
        _step_until(run, time.monotonic() + AFTER_S)
        seen["2 s later"] = run.snapshot()
        _step_until(run, np.inf)
        seen["end"], _ = run.result()
    return seen


def _step_until(run: ScanRun, deadline_s: float) -> None:
    while not run.done and time.monotonic() < deadline_s:
        run.step()


def scored(when: str, snapshot: Snapshot | None, truth: Truth) -> Picture:
    """Compare with the truth; nothing at all scores NaN."""
    if snapshot is None:
        return Picture(when, float("nan"), float("nan"))
    image = Image(truth.object, truth.pixel_m, truth.origin_m, truth.probe)
    found = score(snapshot, image).aligned
    return Picture(when, found.psnr_amplitude_db, found.psnr_phase_db)


def _point(row: np.ndarray) -> tuple[float, float]:
    return float(row[0]), float(row[1])
