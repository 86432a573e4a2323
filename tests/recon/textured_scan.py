"""A scan of a sample with fine detail, at any dose and overlap: numpy alone."""

import numpy as np
import torch

from ptystream.recon.options import (
    EngineOptions,
    ObjectOptions,
    ProbeOptions,
    ReconOptions,
)
from ptystream.recon.options_quality import QualityOptions
from ptystream.recon.reconstruction import Reconstruction
from ptystream.recon.setting import Setting
from tests.recon.general_scan import texture

SIZE = 32
PIXEL_M = 1e-8


class TexturedScan:
    """A raster of ``lines`` squared with known probe; ``photons`` a pattern."""

    def __init__(
        self,
        photons: float,
        *,
        step: int = 4,
        lines: int = 12,
        finest: float = 0.25,
        empty: bool = False,
        seed: int = 0,
    ) -> None:
        rng = np.random.default_rng(seed)
        side = SIZE + step * (lines - 1)
        amplitude = 0.75 + 0.25 * texture(rng, side, finest)
        self.object = amplitude * np.exp(1j * texture(rng, side, finest))
        if empty:
            self.object = np.ones_like(self.object)
        y, x = np.mgrid[:SIZE, :SIZE] - SIZE / 2
        probe = np.exp(-(y**2 + x**2) / 45 + 0.04j * (y**2 + x**2))
        grid = np.arange(lines) * step
        self.corners = np.array([(a, b) for a in grid for b in grid])
        waves = [
            probe * self.object[a : a + SIZE, b : b + SIZE] for a, b in self.corners
        ]
        far = np.fft.fftshift(np.fft.fft2(waves, norm="ortho"), axes=(1, 2))
        light = np.abs(far) ** 2
        scale = photons / light.sum((1, 2)).mean()
        self.probe = probe * np.sqrt(scale)
        self.counts = rng.poisson(light * scale).astype(np.uint32)

    def reconstruction(
        self,
        *,
        field: str = "pixels",
        held_out: float = 0.1,
        quality: QualityOptions | None = None,
    ) -> Reconstruction:
        """Return one that was given the whole scan, and the probe."""
        options = ReconOptions(
            object=ObjectOptions(field=field),  # type: ignore[arg-type]
            probe=ProbeOptions(known=True),
            engine=EngineOptions(batch=32, held_out=held_out, store=len(self.corners)),
            quality=quality or QualityOptions(),
        )
        first = torch.from_numpy(self.probe)[None]
        pixel_m = (PIXEL_M, PIXEL_M)
        recon = Reconstruction(Setting(SIZE, pixel_m, first, wide=True), options)
        for index, corner in enumerate(self.corners):
            recon.add(index, self.counts[index], tuple((corner + SIZE / 2) * PIXEL_M))
        return recon


def run(recon: Reconstruction, steps: int) -> Reconstruction:
    """Take steps, fading in the last 40 %."""
    for n in range(steps):
        done = n / steps
        fade = 1.0 if done < 0.6 else 1 - 0.9 * (done - 0.6) / 0.4
        recon.step(live=False, fade=fade)
    return recon
