"""What may be wrong with the positions, and which they would be then."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

GAP = 4
"""Indices between two known positions over which a line is drawn."""
LAGS = 8
"""Frames by which positions are tried late, and early."""
SCALES = (0.5, 0.63, 0.8, 0.9, 1.1, 1.25, 1.6, 2.0)
"""Factors on both axes; on one axis alone every second but one is tried."""
ONE_AXIS = (0.5, 0.8, 0.9, 1.1, 1.25, 2.0)
RATES = (2, 3, 4, 5, 10)
"""Positions that go on so many times too fast, or too slowly."""

Matrix = tuple[tuple[float, float], tuple[float, float]]
SAME: Matrix = ((1.0, 0.0), (0.0, 1.0))
ORIENTATIONS: dict[Matrix, str] = {
    ((0, 1), (1, 0)): "axes swapped",
    ((0, -1), (-1, 0)): "axes swapped",
    ((-1, 0), (0, 1)): "axis mirrored",
    ((1, 0), (0, -1)): "axis mirrored",
    ((0, -1), (1, 0)): "axes turned",
    ((0, 1), (-1, 0)): "axes turned",
    ((-1, 0), (0, -1)): "conjugate twin",
}
"""What takes (y, x) as told to (y, x) as it is. Turned by 180°, patterns are those of
the conjugate object under the conjugate probe: the first probe alone tells."""


class Places:
    """Where each exposure was taken, as told, by index.

    Between two that are no further apart than ``near_px`` lies a straight line; along a
    spiral, or where the stage flies back, there is none.
    """

    def __init__(
        self, index: np.ndarray, place_px: Float[np.ndarray, "n 2"], near_px: float
    ) -> None:
        self.index, first = np.unique(index, return_index=True)
        self._place, self._near_px = place_px[first], near_px

    def at(self, index: np.ndarray) -> Float[np.ndarray, "n 2"]:
        """Return the places at indices, whole or not; NaN where none is near."""
        after = np.searchsorted(self.index, index).clip(1, len(self.index) - 1)
        low, high = self.index[after - 1], self.index[after]
        share = (index - low) / (high - low)
        there = (share == 0) | (share == 1)
        apart = np.abs(self._place[after] - self._place[after - 1]).max(1)
        line = (high - low <= GAP) & (apart <= self._near_px)
        between = there | (share > 0) & (share < 1) & line
        share = np.where(between, share, np.nan)[:, None]
        return self._place[after - 1] * (1 - share) + self._place[after] * share


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """Exposure i was where i/rate + lag is told to be, times a matrix."""

    lag: int = 0
    rate: float = 1.0
    matrix: Matrix = SAME

    def places(self, told: Places, index: np.ndarray) -> Float[np.ndarray, "n 2"]:
        """Return where exposures were taken; NaN where that isn't known."""
        return told.at(index / self.rate + self.lag) @ np.array(self.matrix, float).T

    @property
    def fault(self) -> str:
        """Return its name, one of ``findings.FAULTS``; empty: all is as told."""
        if self.lag:
            return "positions lag"
        if self.rate != 1:
            return "wrong rate"
        if self.matrix == SAME:
            return ""
        return ORIENTATIONS.get(self.matrix, "wrong scale")

    @property
    def scale(self) -> tuple[float, float]:
        """Return the factors (y, x)."""
        return self.matrix[0][0], self.matrix[1][1]

    def neighbours(self) -> list["Hypothesis"]:
        """Return scales near its own, if it is one; they tell the figure."""
        if self.fault != "wrong scale":
            return []
        y, x = self.scale
        near = (1 / 1.08, 1.08)
        return [scaled(y if y == 1 else y * n, x if x == 1 else x * n) for n in near]


AS_TOLD = Hypothesis()


def scaled(y: float, x: float) -> Hypothesis:
    """Return the hypothesis of a wrong scale: lengths are to be multiplied so."""
    return Hypothesis(matrix=((y, 0), (0, x)))


def all_hypotheses() -> list[Hypothesis]:
    """Return all that are tried, each but one fault."""
    lags = [Hypothesis(lag=k) for k in range(-LAGS, LAGS + 1) if k]
    rates = [Hypothesis(rate=r) for n in RATES for r in (n, 1 / n)]
    scales = [scaled(s, s) for s in SCALES]
    scales += [scaled(s, 1) for s in ONE_AXIS] + [scaled(1, s) for s in ONE_AXIS]
    return [*lags, *(Hypothesis(matrix=m) for m in ORIENTATIONS), *rates, *scales]
