"""A measured scan has no truth: held-out frames and two halves tell instead."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ptystream.errors import FileFormatError
from ptystream.recon.score import Image, compare
from tools.rivals.judge import snapshot
from tools.rivals.problems import Made

LOOKED_AT = 64
"""Frames of the other half that an error is taken over."""


def halves(even: Path, odd: Path, made: Sequence[Made]) -> dict[str, float]:
    """Return the figures of a solver's two runs, the best state of each.

    ``held_out``: the mean of both halves' errors on the other's frames; ``frc_nm``: the
    half-bit resolution of one against the other.

    Raises:
        FileFormatError: a run left nothing, or the two don't overlap.
    """
    first, error = _best(even, made[0], made[1])
    second, other_error = _best(odd, made[1], made[0])
    found = compare(second, first)
    return {
        "held_out": (error + other_error) / 2,
        "frc_nm": found.frc.half_bit.resolution_m * 1e9,
    }


def _best(folder: Path, made: Made, other: Made) -> tuple[Image, float]:
    """Return the state that predicts the other half best, and its error."""
    with np.load(other.npz) as file:
        frames, positions_px = file["frames"] * file["mask"], file["positions_px"]
        mask = file["mask"]
    step = max(1, len(frames) // LOOKED_AT)
    places_m = other.centre_m + positions_px[::step] * np.array(other.pixel_m)
    found: list[tuple[float, Path]] = []
    for path in sorted(folder.glob("*.npz")):
        image, _, _ = snapshot(path, made)
        found.append((held_out_error(image, frames[::step], places_m, mask), path))
    found = [(error, path) for error, path in found if np.isfinite(error)]
    if not found:
        raise FileFormatError(f"{folder}: expected snapshots that see the other half")
    error, path = min(found)
    return snapshot(path, made)[0], error


def held_out_error(
    image: Image, frames: np.ndarray, places_m: np.ndarray, mask: np.ndarray
) -> float:
    """Return by how much amplitudes differ from those of frames never seen.

    It is the sum of squares over that of the measured amplitudes, one factor on the
    light fitted to all of them: for counts, their likelihood as Gaussians of one
    width. ``mask`` is true where a pixel counts. NaN if no frame lies inside.
    """
    if image.probe is None:
        raise FileFormatError("expected a probe")
    size = image.probe.shape[-1]
    top = (places_m - np.array(image.origin_m)) / np.array(image.pixel_m) - size // 2
    limits = np.array(image.object.shape[-2:]) - size
    inside = (np.rint(top) >= 0).all(1) & (np.rint(top) <= limits).all(1)
    if not inside.any():
        return float("nan")
    pairs = zip(top[inside], frames[inside], strict=True)
    cross = power = light = 0.0
    for corner, counts in pairs:
        made = np.fft.fftshift(_pattern(image.object[0], image.probe, corner)) * mask
        measured = np.sqrt(counts.astype(float))
        cross += float((made * measured).sum())
        power += float((made**2).sum())
        light += float((measured**2).sum())
    return 1 - cross**2 / (power * light)


def _pattern(image: np.ndarray, probe: np.ndarray, corner: np.ndarray) -> np.ndarray:
    """Return the amplitudes of a window at a corner, between pixels if need be."""
    whole = np.rint(corner).astype(int)
    size = probe.shape[-1]
    q = np.fft.fftfreq(size)
    y, x = np.exp(-2j * np.pi * np.outer(corner - whole, q))
    moved = np.fft.ifft2(np.fft.fft2(probe) * (y[:, None] * x[None, :]))
    window = image[whole[0] : whole[0] + size, whole[1] : whole[1] + size]
    exits = np.fft.fft2(moved * window, norm="ortho")
    return np.sqrt((np.abs(exits) ** 2).sum(0))
