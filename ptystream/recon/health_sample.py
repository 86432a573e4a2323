"""Which exposures hypotheses are tried on: around a turn, where lines meet."""

import numpy as np
import torch
from jaxtyping import Complex
from torch import Tensor

from ptystream.recon.exposures import Exposures
from ptystream.recon.health_trial import Sample
from ptystream.recon.hypotheses import LAGS, Places

LIGHT = 0.995
"""Part of the light that a pattern is cut to: its rim costs time and has none."""
NEIGHBOUR = 0.25
"""Patterns between two exposures up to which the way is taken to be straight."""
NEAR = 6.0
"""Patterns from the turn, beyond which an exposure is none of these."""
NARROWEST = 0.04
"""Patterns that they must be wide both ways: one line tells next to nothing."""
GLITCH = 20.0
"""Usual ways to both neighbours: what is as far was never there."""
SHARP = 0.5
"""A turn is as sharp as this part of the sharpest."""


def sample(
    exposures: Exposures, probe: Complex[Tensor, "m k k"], frames: int
) -> tuple[Sample, Places] | None:
    """Gather exposures, and where all were; None while they lie along one line.

    Waits for the device.
    """
    store = exposures.store
    told = Places(
        store.index[: store.frames].copy(),
        store.position_px[: store.frames].copy(),
        near_px=NEIGHBOUR * store.size,
    )
    index = around_turn(told, frames, store.size)
    if index is None:
        return None
    slot = {int(i): s for s, i in enumerate(store.index[: store.frames])}
    batch = exposures.batch(np.array([slot[int(i)] for i in index]))
    size = _lit(batch.amplitude)
    mask = exposures.mask if batch.mask is None else batch.mask
    amplitude = _cut(batch.amplitude, size).contiguous()
    gauge = float(amplitude.square().mean())
    return Sample(
        amplitude / gauge**0.5,
        None if mask is None else _cut(mask, size).contiguous(),
        _band(probe.to(amplitude.device, torch.complex64), size),
        index,
        store.size / size,
        exposures.photons * gauge,
    ), told


def around_turn(told: Places, frames: int, size: int) -> np.ndarray | None:
    """Return indices, half of them before and after a turn, half near its end.

    All have so many before and after them as lags are tried. None while they are too
    few, or lie along one line.
    """
    index = told.index
    index = index[(index >= index[0] + LAGS) & (index <= index[-1] - LAGS)]
    place = told.at(index)
    steady = _steady(place) if len(index) else np.zeros(0, bool)
    index, place = index[steady], place[steady]
    frames = min(frames, len(index))
    if frames < 2 * LAGS:
        return None
    centre = _turn(place)
    away = np.abs(place - place[centre]).max(1)
    by_time = np.argsort(np.abs(np.arange(len(index)) - centre), kind="stable")
    by_place = np.argsort(away, kind="stable")
    wanted = np.concatenate([by_time[: frames // 2], by_place])
    wanted = wanted[away[wanted] <= NEAR * size]
    first = np.sort(np.unique(wanted, return_index=True)[1])
    chosen = np.sort(wanted[first[:frames]])
    if len(chosen) < 3 or _width(place[chosen]) < NARROWEST * size:
        return None
    return index[chosen]


def _turn(place: np.ndarray) -> int:
    """Return where a line begins, the one nearest to the middle; of a spiral that."""
    middle = len(place) // 2
    bend = np.linalg.norm(np.diff(place, n=2, axis=0), axis=1)
    sharp = bend >= SHARP * bend.max()
    if sharp.mean() > SHARP:
        return middle
    begins = np.flatnonzero(sharp & ~np.append(sharp[1:], False)) + 1
    return int(begins[np.argmin(np.abs(begins - middle))])


def _steady(place: np.ndarray) -> np.ndarray:
    """Return which places are no glitch: not far from those before and after alike."""
    way = np.linalg.norm(np.diff(place, axis=0), axis=1)
    way = np.concatenate([[np.inf], way, [np.inf]])
    return np.minimum(way[:-1], way[1:]) <= GLITCH * np.median(way)


def _width(place: np.ndarray) -> float:
    """Return how wide places lie the narrower way, whatever their direction."""
    away = place - place.mean(0)
    across = np.linalg.svd(away, full_matrices=False)[2][1]
    return float(np.ptp(away @ across))


def _lit(amplitude: Tensor) -> int:
    """Return the size of the middle of patterns that has nearly all light; even."""
    light = amplitude.square().sum(0).cpu().numpy()
    size = len(light)
    for smaller in range(16, size, 4):
        first = (size - smaller) // 2
        middle = light[first : first + smaller, first : first + smaller]
        if middle.sum() >= LIGHT * light.sum():
            return smaller
    return size


def _cut(values: Tensor, size: int) -> Tensor:
    """Return the middle."""
    first = (values.shape[-1] - size) // 2
    return values[..., first : first + size, first : first + size]


def _band(probe: Complex[Tensor, "m k k"], size: int) -> Complex[Tensor, "m c c"]:
    """Return the probe at coarser pixels: the middle of its spectrum."""
    axes = (-2, -1)
    waves = torch.fft.fftshift(
        torch.fft.fft2(torch.fft.ifftshift(probe, dim=axes)), dim=axes
    )
    waves = torch.fft.ifftshift(_cut(waves, size), dim=axes)
    return torch.fft.fftshift(torch.fft.ifft2(waves), dim=axes)
