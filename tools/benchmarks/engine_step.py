"""The engine's step over the floor that no far-field engine can beat: its two FFTs."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import cycle

import numpy as np
import torch

from ptystream.buffers.sampling import Mix, Sampler
from ptystream.recon.engine import Batch
from ptystream.recon.options import EngineOptions, ObjectOptions, ReconOptions
from ptystream.recon.reconstruction import Reconstruction
from tools.benchmarks.figures import Figure, interleaved, median, ratio
from tools.benchmarks.scans import Exposures, batch_of, begin, exposures

SIZE = 64
STEP_TARGET = 4.0
"""A step of pixels takes at most this many floors, of multires as many such steps."""
WIDE, COMPACT = 3.0, 1 / 3
"""How far a batch reaches, in patterns: what pixels and neural fields are given."""
BATCHES = 16
"""Batches that the steps go through in turn, as they would not repeat in a scan."""


def engine_step(quick: bool) -> Iterator[Figure]:
    """Yield the figures of one thread, 64 patterns of 64 x 64 a step."""
    on_grid = exposures(SIZE, lines=12 if quick else 40, step_px=3)
    beside = replace(on_grid, position_px=on_grid.position_px + _jitter(on_grid))
    options = _options("pixels")
    scans = {"": begin(on_grid, options), ", sub-pixel": begin(beside, options)}
    tasks: dict[str, Callable[[], object]] = {"floor": fft_floor()}
    for label, recon in scans.items():
        recon.step()
        tasks[f"step{label}"] = _steps(recon, _batches(recon, WIDE))
        tasks[f"all{label}"] = partial(recon.step)
    repeats, calls = (5, 3) if quick else (15, 15)
    seconds = interleaved(tasks, repeats=repeats, calls=calls)
    floor = seconds["floor"]
    yield median("fft floor", [s * 1e3 for s in floor], "ms")
    for label in scans:
        name = f"pixels step{label} / fft floor"
        yield ratio(name, seconds[f"step{label}"], floor, target=STEP_TARGET)
        yield ratio(f"{name}, with sampling", seconds[f"all{label}"], floor)
    yield from _neural(on_grid, repeats=5 if quick else 9, calls=3)


def _neural(scan: Exposures, *, repeats: int, calls: int) -> Iterator[Figure]:
    """Yield the neural fields' steps over that of pixels for the same batch."""
    for field, target in (
        ("smooth", STEP_TARGET),
        ("multires", STEP_TARGET),
        ("siren", None),
    ):
        neural, pixels = begin(scan, _options(field)), begin(scan, _options("pixels"))
        batches = _batches(neural, COMPACT)
        tasks = {"neural": _steps(neural, batches), "pixels": _steps(pixels, batches)}
        seconds = interleaved(tasks, repeats=repeats, calls=calls)
        name = f"{field} step / pixels step"
        yield ratio(name, seconds["neural"], seconds["pixels"], target=target)


def _options(field) -> ReconOptions:
    engine = EngineOptions(device="cpu", held_out=0.05)
    return ReconOptions(object=ObjectOptions(field=field), engine=engine)


def _jitter(scan: Exposures) -> np.ndarray:
    rng = np.random.default_rng(1)
    return rng.uniform(-0.4, 0.4, scan.position_px.shape)


def fft_floor() -> Callable[[], object]:
    """Return one FFT and one inverse FFT of a batch."""
    waves = torch.randn(64, SIZE, SIZE, dtype=torch.complex64)
    return lambda: torch.fft.ifft2(torch.fft.fft2(waves))


def _batches(recon: Reconstruction, reach: float) -> list[Batch]:
    """Return batches as the reconstruction's own sampler picks them."""
    store, batch = recon.store, recon.options.engine.batch
    sampler = Sampler(store, batch=batch, reach=reach, seed=1)
    picked = [sampler.pick(Mix()) for _ in range(BATCHES)]
    return [batch_of(store, slots) for slots in picked]


def _steps(recon: Reconstruction, batches: list[Batch]) -> Callable[[], object]:
    """Return a step that takes the batches in turn."""
    turn = cycle(batches)
    return lambda: recon.engine.step(next(turn))
