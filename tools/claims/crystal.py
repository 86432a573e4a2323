"""What a crystal's picture tells: its information limit, its layers' depths."""

import numpy as np
from jaxtyping import Float

SURE = 12.0
"""A peak of the power spectrum counts from so many times the median around it."""
AROUND = 6
"""Half the side of the square in which the median is taken, in frequency pixels."""


def information_limit_m(
    phase_rad: Float[np.ndarray, "h w"], pixel_m: tuple[float, float]
) -> float:
    """Return the smallest spacing with a clear Bragg peak; infinite without one.

    As in paper B's Extended Data figure 1: peaks of the object's power spectrum that
    stand clear of what surrounds them. A peak with no partner at the opposite frequency
    can't be, for a real image; isolated noise is told by its height.
    """
    h, w = phase_rad.shape
    window = np.hanning(h)[:, None] * np.hanning(w)
    power = np.abs(
        np.fft.fftshift(np.fft.fft2((phase_rad - phase_rad.mean()) * window))
    )
    power **= 2
    best = 0.0
    for y in range(AROUND, h - AROUND):
        for x in range(AROUND, w - AROUND):
            here = power[y, x]
            near = power[y - 1 : y + 2, x - 1 : x + 2]
            if here < near.max():
                continue
            wide = power[y - AROUND : y + AROUND + 1, x - AROUND : x + AROUND + 1]
            if here >= SURE * np.median(wide):
                f = np.hypot(
                    (y - h // 2) / (h * pixel_m[0]), (x - w // 2) / (w * pixel_m[1])
                )
                best = max(best, float(f))
    return 1 / best if best else float("inf")


def gap(slices: Float[np.ndarray, "s h w"], truth: Float[np.ndarray, "s h w"]) -> float:
    """Return how much of the strength lies where the truth has layers, in 0 … 1.

    Each slice's strength is the standard deviation of its phase; 1 is as in the truth,
    0 the same in every slice.
    """
    strength = slices.std((1, 2))
    true = truth.std((1, 2))
    layers = true > 0.5 * true.max()
    share = strength[layers].sum() / max(strength.sum(), 1e-12)
    even = layers.mean()
    ideal = true[layers].sum() / true.sum()
    return float((share - even) / (ideal - even))
