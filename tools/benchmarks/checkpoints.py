"""What a checkpoint of a large canvas costs, as a share of the time between two."""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from ptystream.recon.options import EngineOptions, ReconOptions
from ptystream.recon.reconstruction import Reconstruction
from ptystream.recon.state import learned
from ptystream.service.checkpoint import CheckpointSink
from ptystream.settings import CheckpointSettings
from tools.benchmarks.figures import Figure, median
from tools.benchmarks.scans import begin, exposures

SIZE, STEP_PX = 64, 32
SIDES = (1024, 2048)
STEPS = 3
EVERY_S = CheckpointSettings().every_s
SHARE_TARGET = 2.0
"""Of the time between two checkpoints, in percent."""


def checkpoints(quick: bool) -> Iterator[Figure]:
    """Yield processor time, the engine's part of it, bytes, and the share of a core."""
    for side in SIDES:
        lines = side // STEP_PX - 1
        options = ReconOptions(engine=EngineOptions(device="cpu"))
        recon = begin(exposures(SIZE, lines=lines, step_px=STEP_PX), options)
        while learned(recon) is None:
            recon.step()
        yield from _checkpoints(recon, f"{side} x {side}", 3 if quick else 9)


def _checkpoints(recon: Reconstruction, what: str, repeats: int) -> Iterator[Figure]:
    copied: list[float] = []
    spent: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        sink = CheckpointSink(Path(folder))
        for _ in range(repeats):
            for _ in range(STEPS):
                recon.step()
            began_s = time.process_time()
            state = {"run": "bench", "learned": learned(recon)}
            copied.append((time.process_time() - began_s) * 1e3)
            sink.write(state)
            spent.append((time.process_time() - began_s) * 1e3)
        size_bytes = sink.stats.size_bytes
    yield Figure(f"checkpoint of {what}", size_bytes / 2**20, "MiB")
    yield median(f"checkpoint of {what}, engine stands still", copied, "ms")
    yield median(f"checkpoint of {what}, processor time", spent, "ms")
    share = [ms / 1e3 / EVERY_S * 100 for ms in spent]
    name = f"checkpoint of {what} every {EVERY_S:g} s, share of a core"
    yield median(name, share, "%", SHARE_TARGET)
