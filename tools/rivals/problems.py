"""What is solved: scans by ptystream's simulator, and a measured one.

One specimen, lens and seed for all of them, none of them those that ptystream's
defaults were chosen on: not the demo's (cells and circuit, seed 1, a zone plate of
50 nm at 150 um), nor those of ``tools/bench live`` and ``tools/papers``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ptystream.presets import merged
from ptystream.recon.score import Image
from ptystream.recon.start import with_as_many_modes
from ptystream.sim.experiment import Simulated, simulate
from ptystream.sim.settings import SimulateSettings, preset
from ptystream.sim.truth import write_truth
from ptystream.tape.cxi import CxiScan
from ptystream.tape.cxi_write import write_cxi

Changes = Mapping[str, Any]

BASE: Changes = {
    "seed": 71,
    "sample": {"amplitude_picture": "star", "phase_picture": "particles"},
    "optics": {
        "outer_zone_m": 90e-9,
        "stop_m": 45e-6,
        "defocus_m": 260e-6,
        "photons_per_frame": 1e7,
    },
    # Off the raster by up to a pixel: an exact one has an ambiguity of its own.
    "scan": {"jitter_m": 0.0, "shake_px": 1.0, "line_pause_s": 0.0},
    "detector": {"noise": "none", "dtype": "uint32"},
    "encoder": {"noise_m": 0.0, "per_frame": 1},
}
MIDDLING: Changes = {"scan": {"shape": [20, 20], "overlap": 0.85}}
"""400 frames, steps of 10 px of 64."""


@dataclass(frozen=True)
class Problem:
    """One scan.

    Attributes:
        name: for ``--only``.
        about: one line for the table.
        changes: of the simulator's settings, over ``BASE``.
        kind: which of the issue's figures it belongs to: dense, noise, few or other.
        share: of ``--seconds``, that each run gets.
        modes: of the probe, for every solver.
        told: what ptystream is told of it beside, as every solver is.
        misplaced_px: rms error of the positions on file.
        turned: the first probe has its defocus wrong by such a share.
    """

    name: str
    about: str
    changes: Changes
    kind: str = "other"
    share: float = 1.0
    modes: int = 1
    told: tuple[str, ...] = ()
    misplaced_px: float = 0.0
    turned: float = 0.1

    def settings(self, *, quick: bool = False) -> SimulateSettings:
        """Return the simulator's settings; ``quick`` has fewer frames."""
        told = merged(
            merged(BASE, self.changes), {"optics": {"defocus_error": self.turned}}
        )
        if quick:
            side = min(told["scan"]["shape"][0], 10)
            told = merged(told, {"scan": {"shape": [side, side]}})
        return preset("dense", told)

    def flags(self) -> list[str]:
        """Return what ptystream is told beside its defaults."""
        modes = [f"probe.modes={self.modes}"] if self.modes > 1 else []
        moved = ["nuisance.positions=frames"] if self.misplaced_px else []
        return [*modes, *moved, *self.told]


def _few(name: str, side: int, overlap: float) -> Problem:
    raster = {"scan": {"shape": [side, side], "overlap": overlap}}
    return Problem(
        name, f"{side**2} frames, {overlap:.0%} array overlap, clean", raster, "few"
    )


def _middling(name: str, about: str, changes: Changes, **more: Any) -> Problem:
    return Problem(
        name, f"400 frames, 85 %, {about}", merged(MIDDLING, changes), **more
    )


PROBLEMS: dict[str, Problem] = {
    problem.name: problem
    for problem in (
        Problem(
            "overlap-95",
            "3,600 frames, 95 % array overlap, clean",
            {"scan": {"shape": [60, 60], "overlap": 0.95}},
            "dense",
            share=3.0,
        ),
        _middling("overlap-85", "clean", {}, kind="dense"),
        _few("overlap-50", 8, 0.5),
        _few("overlap-30", 6, 0.3),
        _middling(
            "photons",
            "at most 10 photons a pixel",
            {"detector": {"noise": "scaled_poisson", "alpha": 10.0}},
            kind="noise",
        ),
        _middling(
            "mixed",
            "at most 10 photons a pixel, and a deviation of 100",
            {"detector": {"noise": "mixed", "alpha": 10.0}},
            kind="noise",
        ),
        _middling(
            "wrong-probe", "first probe of 1.5 times the defocus", {}, turned=0.5
        ),
        _middling("misplaced", "positions off by a pixel", {}, misplaced_px=1.0),
        _middling(
            "fly",
            "the stage moves 10 px in each exposure",
            {"scan": {"blur_points": 8}},
            modes=2,
        ),
        _middling(
            "modes",
            "a probe of two modes, 7 : 3",
            {"optics": {"mode_powers": [0.7, 0.3]}},
            modes=2,
        ),
    )
}
"""What is simulated, by name, in this order."""
QUICK = ("overlap-85", "overlap-50")
"""Those of ``--quick``."""
STAR = "star"
"""The measured scan; its runs see every second frame: ``star-even``, ``star-odd``."""


@dataclass(frozen=True, eq=False)
class Made:
    """A problem on disk.

    Attributes:
        cxi: the scan as ptystream reads it, the first probe in it.
        npz: the same for the peers' runners.
        centre_m: where the runners' positions have their origin.
        pixel_m: an object pixel.
        truth: what is to be found; None of a measured scan.
    """

    cxi: Path
    npz: Path
    centre_m: np.ndarray
    pixel_m: tuple[float, float]
    truth: Image | None = None


def make(problem: Problem, folder: Path, *, quick: bool = False) -> Made:
    """Simulate a problem and write it."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = problem.settings(quick=quick)
    made = simulate(settings)
    probe = first_probe(settings, problem.modes)
    wrong = np.random.default_rng([settings.seed, 9]).normal(size=(len(made.frames), 2))
    misplaced = problem.misplaced_px * np.array(made.truth.pixel_m)
    positions_m = made.positions_m + wrong * misplaced
    write_truth(folder / "truth.h5", made.truth, settings.model_dump_json())
    t = made.truth
    truth = Image(t.object, t.pixel_m, t.origin_m, t.probe, lit(made))
    scan = _Scan(made.frames, positions_m, probe, t.pixel_m)
    cxi = folder / "scan.cxi"
    illumination = probe.astype(np.complex64)
    write_cxi(cxi, made.frames, positions_m, made.geometry, illumination=illumination)
    refine = problem.misplaced_px > 0
    return replace(scan.written(folder, cxi, settings.scan.shape, refine), truth=truth)


def first_probe(settings: SimulateSettings, modes: int) -> np.ndarray:
    """Return the probe ``[modes, K, K]`` that the beamline believes it has.

    Modes beyond its own are weak ones, as ptystream would begin with.
    """
    optics = settings.optics
    believed_m = optics.defocus_m * (1 + optics.defocus_error)
    other = optics.model_copy(update={"defocus_m": believed_m})
    small = settings.scan.model_copy(update={"shape": (1, 1)})
    told = settings.model_copy(update={"optics": other, "scan": small})
    believed = torch.from_numpy(simulate(told).truth.probe)
    if len(believed) < modes:
        believed = with_as_many_modes(believed, modes)
    return believed[:modes].numpy()


def lit(made: Simulated) -> np.ndarray:
    """Return where the probe's light went, ``[H, W]``, 1 where a step's share of it.

    What no frame has seen can't be scored: at 30 % overlap that is half the picture.
    """
    t = made.truth
    power = (np.abs(t.probe) ** 2).sum(0)
    light = np.zeros(t.object.shape[-2:])
    size = power.shape[-1]
    places = (t.positions_m - np.array(t.origin_m)) / np.array(t.pixel_m)
    for y, x in np.rint(places).astype(int) - size // 2:
        light[y : y + size, x : x + size] += power
    return light / power.max()


def star_halves(path: Path, folder: Path) -> dict[str, Made]:
    """Write the measured scan's even and odd frames as two problems, by name."""
    folder.mkdir(parents=True, exist_ok=True)
    with CxiScan(path) as file:
        frames = np.stack([frame.counts for frame in file.frames()])
        positions_m, geometry = file.positions_m, file.geometry
        probe, mask = file.illumination, file.mask
    pixel_m = geometry.object_pixel_m((frames.shape[1], frames.shape[2]))
    if probe is None:
        mean = np.fft.ifftshift(np.sqrt(frames.mean(0)))
        probe = np.fft.fftshift(np.fft.ifft2(mean, norm="ortho"))[None]
    halves = {}
    for name, first in ((f"{STAR}-even", 0), (f"{STAR}-odd", 1)):
        place = folder / name
        place.mkdir(exist_ok=True)
        half = _Scan(frames[first::2], positions_m[first::2], probe, pixel_m, mask)
        cxi = place / "scan.cxi"
        extras = {"illumination": probe.astype(np.complex64), "mask": mask}
        write_cxi(cxi, half.frames, half.positions_m, geometry, **extras)
        halves[name] = half.written(place, cxi, (1, len(half.frames)), False)
    return halves


@dataclass(frozen=True, eq=False)
class _Scan:
    frames: np.ndarray
    positions_m: np.ndarray
    probe: np.ndarray
    pixel_m: tuple[float, float]
    mask: np.ndarray | None = None

    def written(
        self, folder: Path, cxi: Path, shape: tuple[int, int], refine: bool
    ) -> Made:
        """Write what the peers' runners read, positions from the scan's centre."""
        low, high = self.positions_m.min(0), self.positions_m.max(0)
        centre_m = (low + high) / 2
        positions_px = (self.positions_m - centre_m) / np.array(self.pixel_m)
        extent_px = (high - low).max() / self.pixel_m[0]
        step_px = extent_px / max(1.0, len(self.frames) ** 0.5 - 1)
        npz = folder / "scan.npz"
        whole = np.ones(self.frames.shape[1:], bool)
        np.savez(
            npz,
            frames=self.frames,
            positions_px=positions_px,
            probe=self.probe,
            shape=np.array(shape),
            step_px=step_px,
            refine_positions=refine,
            mask=whole if self.mask is None else self.mask,
        )
        return Made(cxi, npz, centre_m, self.pixel_m)
