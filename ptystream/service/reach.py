"""How far from the rest an exposure may lie."""

import numpy as np


class Reach:
    """Bounds the object: one glitch of an encoder must not cost all the memory.

    The canvas holds everything between its outermost windows, so a position 1 mm off
    at 20 nm a pixel would ask for 2.5 gigapixels.
    """

    def __init__(
        self,
        middle_m: np.ndarray,
        pixel_m: tuple[float, float],
        window_px: tuple[int, int],
        most_mpx: int,
    ) -> None:
        """Begin at a (y, x) that is surely within the scan."""
        self._pixel_m = np.asarray(pixel_m)
        self._window_px = np.asarray(window_px)
        self._most_px = most_mpx * 1e6
        self._low = self._high = np.asarray(middle_m) / self._pixel_m

    def takes(self, position_m: tuple[float, float]) -> bool:
        """Tell whether the object may grow to this (y, x), and remember it if so."""
        place = np.asarray(position_m) / self._pixel_m
        low, high = np.minimum(self._low, place), np.maximum(self._high, place)
        if float(np.prod(high - low + self._window_px)) > self._most_px:
            return False
        self._low, self._high = low, high
        return True
