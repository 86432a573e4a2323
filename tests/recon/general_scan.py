"""Slices, motion and the near field, simulated by numpy alone.

Where the solver moves the probe, here the whole object is moved under a fixed one, and
motion is a sum of many more points than the solver takes.
"""

from dataclasses import dataclass, field

import numpy as np
import torch

from ptystream.recon.options import EngineOptions, ObjectOptions, ReconOptions
from ptystream.recon.reconstruction import Reconstruction
from ptystream.recon.setting import Setting
from tests.recon.small_scan import SIZE, SmallScan

PIXEL_M = (2e-8, 2e-8)
WAVELENGTH_M = 1e-10
PLAIN = ObjectOptions(field="pixels")
MARGIN = 8
"""Object beside what is scanned, so that nothing wraps round into it."""


def texture(rng: np.random.Generator, side: int, finest: float = 0.15) -> np.ndarray:
    """Return a smooth random picture in 0..1."""
    f = np.fft.fftfreq(side)
    soft = np.exp(-((f[:, None] ** 2 + f**2) / finest**2))
    image = np.fft.ifft2(np.fft.fft2(rng.normal(size=(side, side))) * soft).real
    return (image - image.min()) / np.ptp(image)


def moved(image: np.ndarray, by_px: np.ndarray) -> np.ndarray:
    """Return f(r + by): what a stage that moves on by so much brings under the beam."""
    f = np.fft.fftfreq(len(image))
    turns = f[:, None] * by_px[0] + f * by_px[1]
    return np.fft.ifft2(np.fft.fft2(image) * np.exp(2j * np.pi * turns))


def travelled(wave: np.ndarray, distance_m: float) -> np.ndarray:
    """Return the wave so far downstream, paraxially."""
    f = np.fft.fftfreq(len(wave), PIXEL_M[0])
    lag = np.pi * WAVELENGTH_M * distance_m * (f[:, None] ** 2 + f**2)
    return np.fft.ifft2(np.fft.fft2(wave) * np.exp(-1j * lag))


@dataclass
class GeneralScan:
    """A scan of ``slices`` textures ``slice_m`` apart; all else by default as plain.

    ``travel_px`` (y, x) is how far each exposure moves about its middle; ``near_m`` the
    distance to a near-field detector; ``off_px`` how far each exposure truly lies from
    where it is said to; ``brightness`` its light; ``background`` light in each pixel,
    over the mean; ``modes`` more than one are the probe, and itself times x.
    """

    slices: int = 1
    slice_m: float = 1e-4
    travel_px: tuple[float, float] = (0.0, 0.0)
    near_m: float | None = None
    lines: int = 6
    step: int = 4
    off_px: np.ndarray | None = None
    brightness: np.ndarray | None = None
    background: float = 0.0
    modes: int = 1
    phase_only: bool = False
    probes: np.ndarray = field(init=False)
    objects: np.ndarray = field(init=False)
    corners: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        side = SIZE + self.step * (self.lines - 1) + 2 * MARGIN
        rng = np.random.default_rng(3)
        made = []
        for _ in range(self.slices):
            amplitude = 1.0 if self.phase_only else 0.8 + 0.2 * texture(rng, side)
            made.append(amplitude * np.exp(1j * texture(rng, side)))
        self.objects = np.array(made)
        self.probes = SmallScan().probe[None]
        if self.modes > 1:
            x = np.arange(SIZE) - SIZE / 2
            self.probes = np.concatenate([self.probes, 0.15 * x * self.probes])
        grid = np.arange(self.lines) * self.step
        self.corners = np.array([(a, b) for a in grid for b in grid])

    def _at(self, corner: np.ndarray, beside_px: np.ndarray) -> np.ndarray:
        """Return the pattern of a stage that stands."""
        waves = self.probes
        y, x = corner + MARGIN
        for n, whole in enumerate(self.objects):
            if n:
                waves = np.array([travelled(w, self.slice_m) for w in waves])
            shifted = moved(whole, beside_px) if beside_px.any() else whole
            waves = waves * shifted[y : y + SIZE, x : x + SIZE]
        if self.near_m is not None:
            arrived = np.array([travelled(w, self.near_m) for w in waves])
        else:
            far = np.fft.fft2(waves, norm="ortho")
            arrived = np.fft.fftshift(far, axes=(1, 2))
        return (np.abs(arrived) ** 2).sum(0)

    def intensities(self, points: int = 24) -> np.ndarray:
        """Return ``[n, k, k]``."""
        travel = np.array(self.travel_px)
        parts = (np.arange(points) + 0.5) / points - 0.5 if travel.any() else [0.0]
        out = []
        for n, corner in enumerate(self.corners):
            off = np.zeros(2) if self.off_px is None else self.off_px[n]
            shots = [self._at(corner, off + part * travel) for part in parts]
            out.append(np.mean(shots, axis=0))
        light = np.array(out)
        light = light + self.background * light.mean()
        return (
            light if self.brightness is None else light * self.brightness[:, None, None]
        )

    def counts(self, photons: float, seed: int = 1) -> np.ndarray:
        """Return Poisson counts as uint32, ``photons`` a pattern on average."""
        light = self.intensities()
        scale = photons / light.sum((1, 2)).mean()
        return np.random.default_rng(seed).poisson(light * scale).astype(np.uint32)

    def reconstruction(
        self,
        photons: float = 1e6,
        counts: np.ndarray | None = None,
        first: np.ndarray | None = None,
        **sections,
    ) -> Reconstruction:
        """Return a reconstruction, of plain pixels, that was given the whole scan."""
        guess = torch.from_numpy(self.probes if first is None else first)
        setting = Setting(
            SIZE,
            PIXEL_M,
            guess,
            wide=True,
            wavelength_m=WAVELENGTH_M,
            distance_m=self.near_m,
        )
        sections.setdefault("engine", EngineOptions(batch=16, held_out=0.15))
        sections.setdefault("object", PLAIN)
        recon = Reconstruction(setting, ReconOptions(**sections))
        counts = self.counts(photons) if counts is None else counts
        half = np.array(self.travel_px) / 2
        for i, corner in enumerate(self.corners):
            at = corner + SIZE / 2
            path = [tuple((at + s * half) * PIXEL_M) for s in (-1, 1)]
            recon.add(i, counts[i], tuple(at * PIXEL_M), tuple(path))
        return recon


def run(recon: Reconstruction, steps: int) -> Reconstruction:
    """Take steps, fading in the second half."""
    for n in range(steps):
        recon.step(live=False, fade=1.0 if 2 * n < steps else 0.3)
    return recon
