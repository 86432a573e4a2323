"""One reconstruction of a scene, and how good it is."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

from ptystream.config import load
from ptystream.recon.score import Score, score
from ptystream.recon.snapshot import Snapshot
from ptystream.service import classical, offline
from ptystream.service.offline import Progress
from tools.claims.scene import Scene

MARGIN_PX = 30
"""The paper's own evaluation crops as many pixels from each side."""


@dataclass(frozen=True)
class Solved:
    """A result's score, its state, and SSIM of the phase by processor seconds."""

    score: Score
    snapshot: Snapshot
    ssim: tuple[tuple[float, float], ...]

    @property
    def amplitude_db(self) -> float:
        """PSNR of the amplitude, aligned."""
        return self.score.aligned.psnr_amplitude_db

    @property
    def phase_db(self) -> float:
        """PSNR of the phase, aligned."""
        return self.score.aligned.psnr_phase_db

    @property
    def probe_error(self) -> float:
        """Relative error of the probe, up to its ambiguities."""
        return self.score.probe_error

    @property
    def text(self) -> str:
        """Amplitude, phase and probe for the table."""
        probe = self.probe_error
        end = "" if math.isnan(probe) or probe < 1e-6 else f", probe {probe:.3f}"
        return f"{self.amplitude_db:.1f} / {self.phase_db:.1f} dB{end}"


def solve(
    scene: Scene,
    flags: Sequence[str] = (),
    *,
    seconds: float,
    engine: str | None = None,
    known: bool = False,
    margin_px: int = MARGIN_PX,
    follow: bool = False,
) -> Solved:
    """Reconstruct for so long; the state that predicts held-out frames best counts.

    Args:
        scene: what was measured; the truth goes to the score alone.
        flags: settings, as on the command line.
        seconds: wall time at most.
        engine: a classical engine instead.
        known: the true probe is given, and kept.
        margin_px: how much of the truth's rim is left out of the score.
        follow: keep the SSIM at each look.
    """
    scan = scene.knowing_its_probe() if known else scene.scan
    told = [*flags, f"refine.max_s={seconds}", f"probe.known={str(known).lower()}"]
    config = load(environment={}, flags=told)
    seen: list[tuple[float, float]] = []
    began_s = time.process_time()

    def look(progress: Progress) -> None:
        spent_s = time.process_time() - began_s
        got = _score(progress.snapshot, scene, margin_px)
        seen.append((spent_s, got.aligned.ssim_phase))

    watch = look if follow else (lambda _: None)
    if engine is None:
        _, best, _ = offline.reconstruct(scan, config, run="claim", progress=watch)
    else:
        _, best, _ = classical.reconstruct(
            scan, config, engine, run="claim", progress=watch
        )
    if best is None:
        raise RuntimeError(f"{scene.name}: nothing was reconstructed")
    found = _score(best, scene, margin_px)
    return Solved(found, best, tuple(seen))


def _score(snapshot: Snapshot, scene: Scene, margin_px: int) -> Score:
    """Score the same region for all, however little light a wrong probe puts there."""
    return score(snapshot, scene.truth, margin_px=margin_px, min_coverage=0.0)
