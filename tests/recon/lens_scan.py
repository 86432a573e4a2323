"""A scan by a lens out of focus, whose defocus may be told wrong: numpy alone."""

from dataclasses import dataclass, field

import numpy as np
import torch

from ptystream.recon.options import EngineOptions, ReconOptions
from ptystream.recon.reconstruction import Reconstruction
from ptystream.recon.setting import Setting
from tests.recon.general_scan import PIXEL_M, texture

SIZE, RADIUS = 32, 6
"""Pixels of a pattern, and of the pupil's radius in it."""


def lens(defocus_rad: float) -> np.ndarray:
    """Return the probe of a full pupil with so much defocus at its rim."""
    q = np.fft.fftfreq(SIZE, 1 / SIZE) / RADIUS
    square = q[:, None] ** 2 + q**2
    disc = 1 / (1 + np.exp(8 * RADIUS * (np.sqrt(square) - 1)))
    return np.fft.fftshift(np.fft.ifft2(disc * np.exp(1j * defocus_rad * square)))


@dataclass
class LensScan:
    """A raster of ``lines`` squared exposures, ``step`` pixels apart."""

    lines: int
    step: int
    photons: float = 1e5
    defocus_rad: float = 6.0
    seed: int = 0
    corners: np.ndarray = field(init=False)
    counts: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        side = SIZE + self.step * (self.lines - 1)
        amplitude, phase = texture(rng, side, 0.1), texture(rng, side, 0.1)
        whole = (0.7 + 0.3 * amplitude) * np.exp(1.5j * phase)
        grid = np.arange(self.lines) * self.step
        self.corners = np.array([(a, b) for a in grid for b in grid])
        probe = lens(self.defocus_rad)
        waves = [probe * whole[y : y + SIZE, x : x + SIZE] for y, x in self.corners]
        far = np.fft.fftshift(np.fft.fft2(waves, norm="ortho"), axes=(1, 2))
        light = np.abs(far) ** 2
        light *= self.photons / light.sum((1, 2)).mean()
        self.counts = rng.poisson(light).astype(np.uint32)

    def ended(
        self, steps: int, *, told_rad: float | None = None, **sections
    ) -> Reconstruction:
        """Return a reconstruction after so many steps, of the defocus it was told."""
        told_rad = self.defocus_rad if told_rad is None else told_rad
        first = torch.from_numpy(lens(told_rad))[None]
        sections.setdefault("engine", EngineOptions(batch=32, held_out=0.15))
        recon = Reconstruction(
            Setting(SIZE, PIXEL_M, first, wide=True), ReconOptions(**sections)
        )
        for i, corner in enumerate(self.corners):
            recon.add(i, self.counts[i], tuple((corner + SIZE / 2) * PIXEL_M))
        for _ in range(steps):
            recon.step(live=False)
        return recon

    def wrong(self, recon: Reconstruction) -> float:
        """Return how far the probe is from the true one: 0, or up to 1."""
        made, truth = recon.snapshot().probe[0], lens(self.defocus_rad)
        like = abs(np.vdot(made, truth)) / np.linalg.norm(made) / np.linalg.norm(truth)
        return 1 - float(like)
