"""Small problems, and the formulas by loops: numpy alone, no code of the engines."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ptystream.models.field import Box
from ptystream.recon.classical.engine import Engine
from ptystream.recon.classical.problem import Problem
from ptystream.recon.score import Image, score


@dataclass(frozen=True, eq=False)
class Scan:
    """A clean scan; ``corner_px`` are the windows' first pixels."""

    object: np.ndarray
    probe: np.ndarray
    corner_px: np.ndarray
    amplitude: np.ndarray

    def problem(
        self, probe: np.ndarray | None = None, *, rescale: bool = False, **more: Any
    ) -> Problem:
        """Return it as an engine takes it, in float64; by default with its probe."""
        guess = self.probe if probe is None else probe
        return Problem(
            amplitude=torch.from_numpy(self.amplitude.copy()),
            corner_px=torch.from_numpy(self.corner_px.astype(float)),
            probe=torch.from_numpy(guess.copy()),
            box=Box(0, 0, *self.object.shape),
            rescale=rescale,
            **more,
        )

    def start(self) -> torch.Tensor:
        """Return the true object, to begin from."""
        return torch.from_numpy(self.object.copy())


def tiny(*, modes: int = 1, seed: int = 0) -> Scan:
    """Return three 4 px patterns of noise that overlap on 7 x 8 px."""
    rng = np.random.default_rng(seed)
    corners = np.array([[0, 0], [2, 3], [3, 4]])
    return Scan(
        object=noise(rng, (7, 8)),
        probe=noise(rng, (modes, 4, 4)),
        corner_px=corners,
        amplitude=1 + rng.random((3, 4, 4)),
    )


def scan(*, size: int = 16, lines: int = 6, step: int = 3, seed: int = 0) -> Scan:
    """Return patterns of a smooth object, on a raster shaken by up to a pixel."""
    rng = np.random.default_rng(seed)
    grid = np.arange(lines) * step + 1
    corners = np.array([(y, x) for y in grid for x in grid])
    corners = corners + rng.integers(-1, 2, corners.shape)
    side = int(corners.max()) + size + 1
    made = (0.7 + 0.3 * texture(rng, side)) * np.exp(1j * texture(rng, side))
    probe = lens(size, 1.0)[None]
    cut = patches(made, corners, size)
    return Scan(made, probe, corners, np.abs(far_field(probe * cut)))


def lens(size: int, defocus_rad: float) -> np.ndarray:
    """Return a round pupil's focus; ``defocus_rad`` is the phase at its rim."""
    y, x = np.mgrid[:size, :size] - size // 2
    rho2 = (y**2 + x**2) / (size / 5) ** 2
    pupil = (rho2 <= 1) * np.exp(1j * defocus_rad * rho2)
    wave = np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(pupil), norm="ortho"))
    return 10 * wave


def texture(rng: np.random.Generator, side: int) -> np.ndarray:
    """Return a smooth random picture, 0 to 1."""
    f = np.fft.fftfreq(side)
    soft = np.exp(-((f[:, None] ** 2 + f**2) / 0.1**2))
    picture = np.fft.ifft2(np.fft.fft2(rng.normal(size=(side, side))) * soft).real
    return (picture - picture.min()) / np.ptp(picture)


def noise(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Return complex noise."""
    return rng.normal(size=shape) + 1j * rng.normal(size=shape)


def patches(made: np.ndarray, corners: np.ndarray, size: int) -> np.ndarray:
    """Return the object's patches, ``[n, 1, k, k]``."""
    return np.array([made[y : y + size, x : x + size] for y, x in corners])[:, None]


def far_field(waves: np.ndarray) -> np.ndarray:
    """Return the far field of one mode each, ``[n, k, k]``, zero frequency centred."""
    far = np.fft.fftshift(np.fft.fft2(waves, norm="ortho"), axes=(-2, -1))
    return far[:, 0]


def projected(waves: np.ndarray, amplitude: np.ndarray) -> np.ndarray:
    """Return Π(ψ) of one pattern's modes ``[m, k, k]``."""
    far = np.fft.fftshift(np.fft.fft2(waves, norm="ortho"), axes=(-2, -1))
    far = far * (amplitude / np.sqrt((np.abs(far) ** 2).sum(0)))
    return np.fft.ifft2(np.fft.ifftshift(far, axes=(-2, -1)), norm="ortho")


def decibels(scan: Scan, engine: Engine) -> tuple[float, float]:
    """Return the PSNR of amplitude and phase, shift and phase ramp taken out.

    Half a window is left out at the edges, which single patterns alone determine.
    """
    got, truth = (
        Image(made[None], (1.0, 1.0), (0.0, 0.0))
        for made in (engine.object.numpy(), scan.object)
    )
    margin = scan.probe.shape[-1] // 2
    aligned = score(got, truth, margin_px=margin).aligned
    return aligned.psnr_amplitude_db, aligned.psnr_phase_db
