"""Figures of merit for complex images: PSNR, SSIM and Fourier ring correlation.

Pure numpy. PSNR follows the evaluation published with PtyINR. Its text leaves MAX
and the amplitude scale open; its code scales the amplitude by the ratio of the
medians, clips it at 1, and takes MAX = 1 (amplitude) and MAX = π (phase). Its text
subtracts phases plainly, its code wraps the difference; so do we.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Complex, Float, Inexact
from numpy.lib.stride_tricks import sliding_window_view

MAX_AMPLITUDE = 1.0
MAX_PHASE_RAD = float(np.pi)

BEST_DB = 200.0
"""What PSNR says of identical images, so that it stays finite."""

SSIM_WINDOW_PX = 11
SSIM_SIGMA_PX = 1.5


def psnr_db(error: Float[np.ndarray, "*s"], peak: float) -> float:
    """Return 10·log10(peak² / mean error²), at most BEST_DB."""
    mse = float(np.mean(np.square(error, dtype=np.float64)))
    floor = peak**2 * 10 ** (-BEST_DB / 10)
    return float(10 * np.log10(peak**2 / max(mse, floor)))


def scaled_amplitude(
    result: Complex[np.ndarray, "*s"], truth: Complex[np.ndarray, "*s"]
) -> Float[np.ndarray, "*s"]:
    """Return the result's amplitude with the truth's median, clipped at MAX."""
    amplitude = np.abs(result)
    scale = np.median(np.abs(truth)) / max(float(np.median(amplitude)), 1e-30)
    return np.minimum(amplitude * scale, MAX_AMPLITUDE)


def circular_offset(angle_rad: Float[np.ndarray, "*s"]) -> float:
    """Return the θ that minimises Σ wrap(angle - θ)²: exact, in n log n.

    The best θ is the plain mean of the angles with the k smallest lifted by a
    turn, for one k of n: all are compared through cumulative sums.
    """
    angle = np.sort(_wrapped(angle_rad).ravel().astype(np.float64))
    n, turn = angle.size, 2 * np.pi
    lifted = np.concatenate([[0.0], np.cumsum(2 * turn * angle + turn**2)])[:n]
    mean = angle.mean() + turn * np.arange(n) / n
    cost = np.square(angle).sum() + lifted - n * mean**2
    return float(_wrapped(mean)[np.argmin(cost)])


def phase_error_rad(
    result: Complex[np.ndarray, "*s"], truth: Complex[np.ndarray, "*s"]
) -> Float[np.ndarray, "*s"]:
    """Return the wrapped phase difference, its best global offset removed."""
    difference = np.angle(result) - np.angle(truth)
    return _wrapped(difference - circular_offset(difference))


def psnr_amplitude_db(
    result: Complex[np.ndarray, "*s"], truth: Complex[np.ndarray, "*s"]
) -> float:
    """Return the PSNR of the amplitude, scaled by medians; MAX = 1."""
    return psnr_db(scaled_amplitude(result, truth) - np.abs(truth), MAX_AMPLITUDE)


def psnr_phase_db(
    result: Complex[np.ndarray, "*s"], truth: Complex[np.ndarray, "*s"]
) -> float:
    """Return the PSNR of the phase up to one global offset; MAX = π."""
    return psnr_db(phase_error_rad(result, truth), MAX_PHASE_RAD)


def ssim(
    result: Float[np.ndarray, "h w"],
    truth: Float[np.ndarray, "h w"],
    peak: float,
    region: Bool[np.ndarray, "h w"],
) -> float:
    """Return the mean structural similarity over windows that lie in the region.

    Gaussian window of 11 pixels, σ = 1.5, K = (0.01, 0.03), population variance.
    NaN where no window fits.
    """
    if min(truth.shape) < SSIM_WINDOW_PX:
        return float("nan")
    inside = _blurred(region.astype(np.float64)) > 1 - 1e-9
    if not inside.any():
        return float("nan")
    x, y = result.astype(np.float64), truth.astype(np.float64)
    mx, my = _blurred(x), _blurred(y)
    vx, vy = _blurred(x * x) - mx * mx, _blurred(y * y) - my * my
    cov = _blurred(x * y) - mx * my
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    top = (2 * mx * my + c1) * (2 * cov + c2)
    return float((top / ((mx**2 + my**2 + c1) * (vx + vy + c2)))[inside].mean())


@dataclass(frozen=True, slots=True)
class Resolution:
    """Half a period of the finest agreeing frequency; one pixel at Nyquist.

    NaN if even the lowest ring disagrees. ``nyquist_limited``: the curve never
    fell below the threshold, so the true figure may be better.
    """

    resolution_m: float
    nyquist_limited: bool


@dataclass(frozen=True, slots=True, eq=False)
class Frc:
    """A Fourier ring correlation; one entry a ring, from the first above zero.

    ``samples`` is the number of independent Fourier pixels in the ring.
    """

    frequency_per_m: Float[np.ndarray, " rings"]
    correlation: Float[np.ndarray, " rings"]
    samples: Float[np.ndarray, " rings"]

    def threshold(
        self, bits: Literal["half", "one"] = "half"
    ) -> Float[np.ndarray, " rings"]:
        """Return the correlation that each ring must reach."""
        return half_bit(self.samples) if bits == "half" else one_bit(self.samples)

    def resolution(self, bits: Literal["half", "one"] = "half") -> Resolution:
        """Return where the curve first falls below the threshold, interpolated."""
        above = self.correlation - self.threshold(bits)
        below = np.flatnonzero(~(above >= 0))
        if not len(below):
            return Resolution(0.5 / float(self.frequency_per_m[-1]), True)
        i = int(below[0])
        if i == 0:
            return Resolution(float("nan"), False)
        part = above[i - 1] / (above[i - 1] - above[i])
        low, high = self.frequency_per_m[i - 1], self.frequency_per_m[i]
        return Resolution(float(0.5 / (low + part * (high - low))), False)


def half_bit(samples: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Return the half-bit threshold of van Heel and Schatz (2005)."""
    root = np.sqrt(np.maximum(samples, 1.0))
    return (0.2071 + 1.9102 / root) / (1.2071 + 0.9102 / root)


def one_bit(samples: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Return the one-bit threshold of van Heel and Schatz (2005)."""
    root = np.sqrt(np.maximum(samples, 1.0))
    return (0.5 + 2.4142 / root) / (1.5 + 1.4142 / root)


def frc(
    a: Inexact[np.ndarray, "h w"],
    b: Inexact[np.ndarray, "h w"],
    pixel_m: tuple[float, float],
    window: Float[np.ndarray, "h w"],
) -> Frc:
    """Return the ring correlation Σ F₁F₂* / √(Σ|F₁|² Σ|F₂|²), its real part.

    Align complex images first: a global phase between them counts as error. The
    mean is removed before the window, whose own shape would else correlate. A
    ring's samples are its pixels, times the share that the window leaves independent
    (in two dimensions: for a thin ring a low, so a strict, estimate), halved for real
    images (their spectrum is symmetric).
    """
    ring, width = _rings(a.shape, pixel_m)
    count = int(_nyquist_per_m(pixel_m) / width * (1 + 1e-9)) + 1
    fa, fb = (np.fft.fft2(_apodised(image, window)) for image in (a, b))

    def total(values: np.ndarray) -> np.ndarray:
        return np.bincount(ring, values.ravel(), minlength=count)[1:count]

    power = total(np.abs(fa) ** 2) * total(np.abs(fb) ** 2)
    cross = total((fa * fb.conj()).real)
    free = np.mean(window**2) ** 2 / np.mean(window**4)
    free = free if np.iscomplexobj(a) or np.iscomplexobj(b) else free / 2
    return Frc(
        frequency_per_m=np.arange(1, count) * width,
        correlation=cross / np.sqrt(np.maximum(power, 1e-300)),
        samples=total(np.ones(a.shape)) * free,
    )


def soft_window(
    region: Bool[np.ndarray, "h w"], edge_px: int | None = None
) -> Float[np.ndarray, "h w"]:
    """Return a window that rises from the region's border to 1 as a raised cosine.

    The edge is an eighth of the shorter side, 64 pixels at most, unless told.
    """
    edge = edge_px or int(np.clip(min(region.shape) // 8, 2, 64))
    left = np.pad(region, 1)
    depth = np.zeros(region.shape)
    for _ in range(edge):
        depth += left[1:-1, 1:-1]
        near = left[:-2, 1:-1] & left[2:, 1:-1] & left[1:-1, :-2] & left[1:-1, 2:]
        left[1:-1, 1:-1] &= near
    return np.sin(np.pi / 2 * depth / edge) ** 2


def _wrapped(angle_rad: np.ndarray) -> np.ndarray:
    return (angle_rad + np.pi) % (2 * np.pi) - np.pi


def _blurred(image: np.ndarray) -> np.ndarray:
    """Return the image under the SSIM window, where the window fits."""
    offset = np.arange(SSIM_WINDOW_PX) - SSIM_WINDOW_PX // 2
    kernel = np.exp(-0.5 * (offset / SSIM_SIGMA_PX) ** 2)
    kernel /= kernel.sum()
    down = sliding_window_view(image, SSIM_WINDOW_PX, axis=0) @ kernel
    return sliding_window_view(down, SSIM_WINDOW_PX, axis=1) @ kernel


def _apodised(image: np.ndarray, window: np.ndarray) -> np.ndarray:
    return (image - (image * window).sum() / window.sum()) * window


def _nyquist_per_m(pixel_m: tuple[float, float]) -> float:
    """Return the highest frequency that both axes hold."""
    return 0.5 / max(pixel_m)


def _rings(
    shape: tuple[int, ...], pixel_m: tuple[float, float]
) -> tuple[np.ndarray, float]:
    """Return each Fourier pixel's ring, flat, and the rings' width in 1/m.

    A ring is as wide as the coarser axis' frequency step.
    """
    fy, fx = (np.fft.fftfreq(n, p) for n, p in zip(shape, pixel_m, strict=True))
    width = max(1 / (n * p) for n, p in zip(shape, pixel_m, strict=True))
    ring = np.rint(np.hypot(fy[:, None], fx[None, :]) / width)
    return ring.astype(np.intp).ravel(), float(width)
