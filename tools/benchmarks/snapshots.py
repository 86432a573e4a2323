"""What snapshots of a large canvas cost the steps between them."""

import time
from collections.abc import Callable, Iterator

from ptystream.recon.options import EngineOptions, ObjectOptions, ReconOptions
from ptystream.recon.reconstruction import Reconstruction
from tools.benchmarks.figures import Figure, ratio
from tools.benchmarks.scans import begin, exposures

SIZE, LINES, STEP_PX = 64, 31, 32
"""Patterns on a raster whose canvas has 1024 x 1024 pixels."""
SNAPSHOTS_HZ = 2.0
DELAY_TARGET = 1.1
FIELDS = {"smooth": DELAY_TARGET, "pixels": DELAY_TARGET, "multires": None}
"""The two that the default chooses from, and a network."""


def snapshots(quick: bool) -> Iterator[Figure]:
    """Yield seconds a step, with two snapshots a second and without, as a ratio."""
    scan = exposures(SIZE, lines=LINES, step_px=STEP_PX)
    for field, target in FIELDS.items():
        options = ObjectOptions(field=field)  # pyright: ignore[reportArgumentType]
        recon = begin(scan, ReconOptions(options, engine=EngineOptions(device="cpu")))
        _steps_s(recon, 1.0, _nothing)
        seconds = {"shown": list[float](), "plain": list[float]()}
        for _ in range(3 if quick else 9):
            seconds["plain"].append(_steps_s(recon, 2 / SNAPSHOTS_HZ, _nothing))
            seconds["shown"].append(_steps_s(recon, 2 / SNAPSHOTS_HZ, recon.snapshot))
        name = f"{field} step with snapshots of 1024 x 1024 at 2 Hz / without"
        yield ratio(name, seconds["shown"], seconds["plain"], target=target)


def _steps_s(recon: Reconstruction, for_s: float, show: Callable[[], object]) -> float:
    """Return the time to a step over so long, with ``show`` every half a second.

    All of the processor's: two snapshots a second of a crowded clock would be more.
    """
    began_s = time.process_time()
    due_s, steps = began_s, 0
    while (now_s := time.process_time()) - began_s < for_s:
        if now_s >= due_s:
            show()
            due_s += 1 / SNAPSHOTS_HZ
        recon.step()
        steps += 1
    return (time.process_time() - began_s) / steps


def _nothing() -> None:
    return
