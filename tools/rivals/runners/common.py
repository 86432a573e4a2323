"""What every runner shares: the problem, the clock, the snapshots it leaves.

``RUNNER PROBLEM.npz TASK.json FOLDER``. The clock is that of the process from its
start, imports included; what keeping a snapshot takes is subtracted. It needs NumPy
only: it is run in the peers' environments.
"""

# pyright: reportMissingImports=false
import json
import resource
import sys
import time
from pathlib import Path

import numpy as np

NEXT = 1.25
"""Snapshots are kept at processor times that grow by so much."""


class Race:
    """One run: what is to be solved, how, and for how long.

    Attributes:
        frames: counts ``[n, K, K]`` float32, zero frequency in the centre.
        positions_px: ``[n, 2]`` (y, x) from the scan's centre, in object pixels.
        probe: the first guess ``[modes, K, K]``, its middle at [K//2, K//2].
        mask: ``[K, K]``, true where a pixel is usable.
        shape: lines, and frames a line.
        step_px: between two frames of a line.
        method, settings: which of the peer's methods, and the values it gets.
        threads, seconds: how many it may use, and for how long.
        refine_positions: whether the positions are known to be inexact.
    """

    def __init__(self) -> None:
        problem, task, folder = (Path(word) for word in sys.argv[1:4])
        told = json.loads(task.read_text())
        self.method: str = told["method"]
        self.settings: dict = told["settings"]
        self.threads: int = told["threads"]
        self.seconds: float = told["seconds"]
        self._began_s: float = told["began_s"]
        self._folder, self._aside_cpu_s, self._aside_wall_s = folder, 0.0, 0.0
        self._next_s, self._kept = 0.0, 0
        with np.load(problem) as file:
            self.frames = file["frames"].astype(np.float32)
            self.positions_px = file["positions_px"]
            self.probe = file["probe"].astype(np.complex64)
            self.mask = file["mask"]
            self.shape = tuple(int(n) for n in file["shape"])
            self.step_px = float(file["step_px"])
            self.refine_positions = bool(file["refine_positions"])

    def batch(self) -> int:
        """Return the frames a step: the setting, 0 for all of them."""
        wanted = int(self.settings.get("batch", 0))
        return min(wanted, len(self.frames)) if wanted else len(self.frames)

    @property
    def cpu_s(self) -> float:
        """Processor time so far."""
        return _cpu_s() - self._aside_cpu_s

    def over(self) -> bool:
        """Tell whether the time is up."""
        return self.cpu_s >= self.seconds

    def due(self) -> bool:
        """Tell whether a snapshot is to be kept now."""
        return self.cpu_s >= self._next_s or self.over()

    def keep(self, image: np.ndarray, probe: np.ndarray, origin_px: tuple) -> bool:
        """Keep a snapshot; return whether it is finite, for there is no way back.

        Args:
            image: object ``[H, W]``.
            probe: ``[modes, K, K]``, its middle at [K//2, K//2].
            origin_px: place of object pixel [0, 0], in ``positions_px``' coordinates.
        """
        cpu_s, wall_s = self.cpu_s, time.monotonic() - self._began_s
        aside_s, aside_cpu_s = time.monotonic(), _cpu_s()
        finite = bool(np.isfinite(image).all() and np.isfinite(probe).all())
        if finite:
            np.savez(
                self._folder / f"{self._kept:03d}.npz",
                object=np.asarray(image, np.complex64),
                probe=np.asarray(probe, np.complex64),
                origin_px=np.asarray(origin_px, float),
                cpu_s=cpu_s,
                wall_s=wall_s - self._aside_wall_s,
            )
        self._kept, self._next_s = self._kept + 1, cpu_s * NEXT
        self._aside_wall_s += time.monotonic() - aside_s
        self._aside_cpu_s += _cpu_s() - aside_cpu_s
        return finite

    def done(self, iterations: int, **versions: str) -> None:
        """Say that the run came to its end."""
        said = {"iterations": iterations, "cpu_s": self.cpu_s, "versions": versions}
        (self._folder / "done.json").write_text(json.dumps(said))


def mend_torchvision() -> None:
    """Let torchvision be imported beside a torch without CUDA.

    Its wheels are built against CUDA's; pty-chi and PtyRAD use its blur only, for which
    the two missing operators need a declaration and no more.
    """
    import torch

    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        for name in [name for name in sys.modules if name.startswith("torchvision")]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "DEF")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define(
            "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        )
        _KEPT.append(library)


_KEPT: list = []
"""A library's declarations go when it does."""


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
