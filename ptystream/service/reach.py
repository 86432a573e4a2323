"""How far from the rest an exposure may lie."""

Point = tuple[float, float]


class Reach:
    """Bounds the object: one glitch of an encoder must not cost all the memory.

    The canvas holds everything between its outermost windows, so a position 1 mm off
    at 20 nm a pixel would ask for 2.5 gigapixels.
    """

    def __init__(
        self,
        middle_m: Point,
        pixel_m: Point,
        window_px: tuple[int, int],
        most_mpx: int,
    ) -> None:
        """Begin at a (y, x) that is surely within the scan."""
        self._pixel_m, self._window_px = pixel_m, window_px
        self._most_px = most_mpx * 1e6
        self._low = self._high = middle_m

    def takes(self, position_m: Point) -> bool:
        """Tell whether the object may grow to this (y, x), and remember it if so."""
        (y, x), (low_y, low_x), (high_y, high_x) = position_m, self._low, self._high
        low = min(low_y, y), min(low_x, x)
        high = max(high_y, y), max(high_x, x)
        if not self._area_px(low, high) <= self._most_px:
            return False
        self._low, self._high = low, high
        return True

    def _area_px(self, low_m: Point, high_m: Point) -> float:
        """Return the area of the windows from one centre to the other."""
        rows = (high_m[0] - low_m[0]) / self._pixel_m[0] + self._window_px[0]
        cols = (high_m[1] - low_m[1]) / self._pixel_m[1] + self._window_px[1]
        return rows * cols
