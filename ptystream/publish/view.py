"""From a complex object to what eyes can judge: one plane, flat phase, fewer pixels."""

import numpy as np


def projection(slices: np.ndarray) -> np.ndarray:
    """Return ``[H, W]``: the product of the slices ``[slices, H, W]``."""
    return slices[0] if len(slices) == 1 else np.prod(slices, axis=0)


def lit(coverage: np.ndarray, share: float = 0.1) -> np.ndarray:
    """Return where the dose exceeds a share of its 95th percentile; bool ``[H, W]``."""
    dosed = coverage[coverage > 0]
    if dosed.size == 0:
        return np.zeros(coverage.shape, bool)
    return coverage > share * np.percentile(dosed, 95)


def flatten(plane: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Remove what no pattern can determine: the mean phase and a linear ramp.

    Both are judged inside the mask only; outside it the same is removed.
    """
    finite = plane if np.isfinite(plane).all() else np.nan_to_num(plane)
    inside = finite * mask
    steps = (
        np.angle(np.vdot(inside[:-1, :], inside[1:, :])),
        np.angle(np.vdot(inside[:, :-1], inside[:, 1:])),
    )
    # The ramp is a product of a column and a row: no full-size exponential.
    y, x = (
        np.exp(-1j * step * np.arange(n)).astype(np.complex64)
        for n, step in zip(plane.shape, steps, strict=True)
    )
    mean = complex(y @ inside @ x)
    turn = np.complex64(abs(mean) / mean if mean else 1.0)
    return finite * (y * turn)[:, None] * x


def shrink(plane: np.ndarray, factor: int) -> np.ndarray:
    """Average blocks of ``factor`` pixels of the last two axes; the rest is kept."""
    if factor == 1:
        return plane
    h, w = plane.shape[-2:]
    sums = _sum_blocks(_sum_blocks(plane, factor).swapaxes(-1, -2), factor)
    rows, cols = (np.minimum(factor, n - np.arange(0, n, factor)) for n in (h, w))
    return sums.swapaxes(-1, -2) / (rows[:, None] * cols).astype(np.float32)


def _sum_blocks(plane: np.ndarray, factor: int) -> np.ndarray:
    """Sum blocks of rows; ten times as fast as ``np.add.reduceat``."""
    sums = plane[..., ::factor, :].copy()
    for first in range(1, min(factor, plane.shape[-2])):
        rows = plane[..., first::factor, :]
        sums[..., : rows.shape[-2], :] += rows
    return sums


def shrink_factor(shape: tuple[int, ...], max_px: int) -> int:
    """Return the smallest block that brings the longer side to ``max_px`` or less."""
    return max(1, -(-max(shape[-2:]) // max_px))
