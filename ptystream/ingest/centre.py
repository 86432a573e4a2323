"""Where the beam is on the detector, from the first frames of a scan."""

import numpy as np

from ptystream.ingest.preprocess_options import Crop

_ROUNDS = 5  # the window follows the light; it stands still after two or three


def light_centre(light: np.ndarray, size: tuple[int, int]) -> tuple[float, float]:
    """Return row and column of the intensity's centre of gravity; the dark's middle.

    Once over all, then within windows of ``size`` around it. Only what is above their
    median counts: a background would pull the centre to the middle.
    """
    top = left = 0
    part, centre = light, _middle(light)
    for _ in range(_ROUNDS):
        above = np.clip(part - np.median(part), 0, None)
        if not above.any():
            break
        y, x = _gravity(above)
        centre = top + y, left + x
        top = max(0, round(centre[0]) - size[0] // 2)
        left = max(0, round(centre[1]) - size[1] // 2)
        part = light[top : top + size[0], left : left + size[1]]
    return centre


def window_around(
    centre: tuple[float, float], size: tuple[int, int], binning: int
) -> Crop:
    """Return the window in which the beam falls on the pixel after the half.

    That is row ``h // 2``, where the engine has its zero frequency, once binned.
    """
    corner = [
        round(middle - binning * (length // binning // 2) - (binning - 1) / 2)
        for middle, length in zip(centre, size, strict=True)
    ]
    return corner[0], corner[1], size[0], size[1]


def _middle(light: np.ndarray) -> tuple[float, float]:
    return (light.shape[0] - 1) / 2, (light.shape[1] - 1) / 2


def _gravity(light: np.ndarray) -> tuple[float, float]:
    rows, cols = light.sum(1), light.sum(0)
    total = rows.sum()
    y, x = rows @ np.arange(len(rows)) / total, cols @ np.arange(len(cols)) / total
    return float(y), float(x)
