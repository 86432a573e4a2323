"""Scans to measure with: patterns that need only be plausible, not a specimen."""

from dataclasses import dataclass

import numpy as np
import torch

from ptystream.buffers.store import FrameStore
from ptystream.recon.engine import Batch
from ptystream.recon.options import ReconOptions
from ptystream.recon.reconstruction import Reconstruction, Setting

PHOTONS = 1e6
ON_GRID_PX = 1e-3


@dataclass(frozen=True)
class Exposures:
    """``counts`` ``[n, k, k]`` uint16 at ``position_px`` ``[n, 2]`` of a ``probe``."""

    counts: np.ndarray
    position_px: np.ndarray
    probe: np.ndarray


def exposures(size: int, *, lines: int, step_px: int) -> Exposures:
    """Return a square raster over an empty specimen, whole pixels apart."""
    y, x = np.mgrid[:size, :size] - size / 2
    distance = y**2 + x**2
    probe = np.exp(-distance / (2 * (size / 8) ** 2) + 0.01j * distance)
    light = np.abs(np.fft.fftshift(np.fft.fft2(probe))) ** 2
    rng = np.random.default_rng(0)
    counts = rng.poisson(light * (PHOTONS / light.sum()), (lines**2, size, size))
    raster = np.mgrid[:lines, :lines].reshape(2, -1).T * step_px
    return Exposures(counts.astype(np.uint16), raster + size / 2, probe)


def begin(scan: Exposures, options: ReconOptions) -> Reconstruction:
    """Return a reconstruction that has taken in the whole scan, and no step."""
    size = scan.counts.shape[-1]
    probe = torch.from_numpy(scan.probe[None].astype(np.complex64))
    recon = Reconstruction(Setting(size, (1.0, 1.0), probe), options)
    for index, counts in enumerate(scan.counts):
        y, x = scan.position_px[index]
        recon.add(index, counts, (y, x))
    return recon


def batch_of(store: FrameStore, slots: np.ndarray) -> Batch:
    """Return these exposures as the engine takes them, with a mean square of 1."""
    corner = store.position_px[slots] - store.size / 2
    whole = np.round(corner)
    beside = torch.from_numpy(corner - whole).float()
    amplitude = store.amplitude(torch.from_numpy(slots))
    scale = float(amplitude.square().mean()) ** -0.5
    shift = beside if beside.abs().max() > ON_GRID_PX else None
    corners = [(int(y), int(x)) for y, x in whole]
    return Batch(corners, shift, amplitude * scale)
