"""Memory of an engine's process for a scan ten times longer than its store.

Run as a module with a number of frames, it takes in so many, steps and shows, and
prints what its process holds in the end.
"""

import os
import sys
from collections.abc import Iterator

import numpy as np
import torch

from ptystream.recon.heap import keep_freed_memory
from ptystream.recon.options import EngineOptions, ReconOptions
from ptystream.recon.reconstruction import Reconstruction, Setting
from tools.benchmarks.figures import Figure
from tools.benchmarks.live_memory import memory_of
from tools.benchmarks.receiver import line_of, process
from tools.benchmarks.scans import Exposures, exposures

SIZE, LINES, STEP_PX = 64, 32, 8
STORE = LINES**2
"""As many exposures as one pass over the area has."""
LONGER = 10
GROWTH_TARGET = 1.02
STEP_EVERY, SHOW_EVERY = 16, 256


def longer(quick: bool) -> Iterator[Figure]:
    """Yield memory after one store full of frames, and after ten, of fresh processes.

    Both scans cover the same area: a larger one needs a larger canvas.
    """
    held = {times: _held_mib(times * STORE) for times in (1, 3 if quick else LONGER)}
    (once, base), (times, held_mib) = held.items()
    yield Figure(f"engine's memory, scan of {once} store", base, "MiB")
    label = f"engine's memory, scan of {times} stores / of {once}"
    yield Figure(label, held_mib / base, "x", GROWTH_TARGET)


def _held_mib(frames: int) -> float:
    with process(str(frames), module=__name__) as engine:
        return float(line_of(engine))


def _scanned(frames: int) -> float:
    """Take in so many frames of one area, pass by pass; return MiB in the end."""
    scan = exposures(SIZE, lines=LINES, step_px=STEP_PX)
    probe = torch.from_numpy(scan.probe[None].astype(np.complex64))
    options = ReconOptions(engine=EngineOptions(device="cpu", store=STORE))
    recon = Reconstruction(Setting(SIZE, (1.0, 1.0), probe), options)
    for index in range(frames):
        recon.add(index, scan.counts[index % STORE], _place(scan, index))
        if index % STEP_EVERY == 0:
            recon.step()
        if index % SHOW_EVERY == 0:
            recon.snapshot()
    return memory_of(os.getpid()).all_mib


def _place(scan: Exposures, index: int) -> tuple[float, float]:
    """Return where a frame lies; each pass is a little beside the last."""
    y, x = scan.position_px[index % STORE] + index // STORE % STEP_PX
    return float(y), float(x)


if __name__ == "__main__":
    torch.set_num_threads(1)
    keep_freed_memory()
    print(_scanned(int(sys.argv[1])), flush=True)
