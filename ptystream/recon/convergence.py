"""Whether the reconstruction has stopped improving: a flag that does not flap."""

import math
from collections import deque

import numpy as np

from ptystream.recon.options_quality import QualityOptions

SURE = 3.0
"""Standard deviations of the error's scatter that a change must exceed to be one."""
STILL = 0.002
"""Growth of the covered area, over all looks, that is none: edges that brighten."""
TINY = 1e-30
"""An error below it is none."""
REMEMBERED = 64
"""Looks that tell the scatter; older ones are forgotten."""


class Convergence:
    """Follows the held-out error look by look; pure, and time is counted in looks.

    It sets when, over ``looks`` looks, the error has not fallen and no area was added.
    Set, it is taken back when each of the last ``looks / 2`` lies on the same side of
    the error at which it set, further off than ``moved`` and than its scatter; or when
    the area has grown by ``grown``. What lies between changes nothing. Shares of the
    error are differences of its logarithm.
    """

    def __init__(self, options: QualityOptions) -> None:
        self._options = options
        self._errors: deque[float] = deque(maxlen=max(REMEMBERED, options.looks))
        self._areas: deque[float] = deque(maxlen=options.looks)
        self._level = self._area = math.nan
        self.set = False

    def saw(self, error: float, area_px: float) -> bool:
        """Take note of a look; return whether it has converged.

        Args:
            error: of held-out exposures; NaN (nothing is held out) tells nothing.
            area_px: how much of the object has been lit.
        """
        if math.isnan(error):
            return self.set
        self._errors.append(math.log(max(error, TINY)))
        self._areas.append(area_px)
        if self.set and self._left():
            self.set = False
            self._errors.clear()
            self._areas.clear()
        elif not self.set and self._still():
            self.set = True
            self._level = float(np.mean(self._last(self._options.looks)))
            self._area = area_px
        return self.set

    def _still(self) -> bool:
        """Tell whether neither error nor area has moved since ``looks`` looks ago."""
        looks = self._options.looks
        if len(self._areas) < looks or self._areas[-1] <= 0:
            return False
        half = looks // 2
        last = self._last(2 * half)
        before, after = last[:half].mean(), last[half:].mean()
        doubt = SURE * self._scatter() * math.sqrt(2 / half)
        fallen = before - after > max(self._options.gain, doubt)
        return not fallen and self._areas[-1] <= self._areas[0] * (1 + STILL)

    def _left(self) -> bool:
        """Tell whether the error has left its level, or the area its extent."""
        off = self._last(self._options.looks // 2) - self._level
        far = max(self._options.moved, SURE * self._scatter())
        moved = bool((off > far).all() or (off < -far).all())
        return moved or self._areas[-1] > self._area * (1 + self._options.grown)

    def _last(self, count: int) -> np.ndarray:
        """Return the last errors' logarithms."""
        return np.array(self._errors)[-count:]

    def _scatter(self) -> float:
        """Return the scatter of a look about its neighbours: no trend counts."""
        bends = np.diff(np.array(self._errors), 2)
        return float(np.sqrt(np.mean(bends**2) / 6)) if len(bends) else 0.0
