"""When to slow down, and when to stop, after the last frame."""

import math

SLOWER = 0.3
"""Each time the quality stalls, rates shrink by this."""
SLOWEST = 0.1
"""A stall at a rate below this ends the refinement."""
PATIENCE_STEPS = 50
"""A stall takes at least so many steps, however slow they are."""
SETTLED_STEPS = 500
"""Before so many steps nothing is a stall. An empty object predicts the held-out frames
of a sparse scan better than one that is half learned: stopping then would keep it."""
CHANCE = 0.02
"""Held-out errors this close are alike: of such states the newest is kept. The lowest
of many alike is there by chance, and often an early one."""


def as_good(error: float, best: float) -> bool:
    """Tell whether a held-out error is the best one's like, or better; NaN is not."""
    return error <= best * (1 + CHANCE)


class Refiner:
    """Follows the held-out error; pure, time is passed in."""

    def __init__(
        self,
        now_s: float,
        *,
        max_s: float,
        patience_s: float,
        gain: float,
        max_steps: int | None = None,
    ) -> None:
        """Begin; ``max_steps`` of refining end it wherever it stands."""
        self._began_s = self._moved_s = now_s
        self._max_s, self._patience_s, self._gain = max_s, patience_s, gain
        self._max_steps, self._taken = max_steps, 0
        self._moved_steps = 0
        self._best = math.inf
        self.fade = 1.0
        self.why: str | None = "no time was given" if max_s == 0 else None

    def saw(
        self,
        error: float,
        now_s: float,
        steps: int,
        *,
        still: bool = False,
        awaited: bool = False,
    ) -> bool:
        """Take note of a held-out error after so many steps; True if it is to be kept.

        NaN (nothing is held out) never improves: then only time runs. ``still``: what
        was measured does not learn at present, so that is no stall. ``awaited``:
        something else is to end first, so a stall ends nothing.
        """
        moved = still or steps < SETTLED_STEPS
        if moved or error < self._best * (1 - self._gain):
            self._moved_s, self._moved_steps = now_s, steps
        self._best = min(self._best, error)  # NaN is not below it
        waited = now_s - self._moved_s >= self._patience_s
        if now_s - self._began_s >= self._max_s:
            self.why = f"the limit of {self._max_s:g} s"
        elif waited and steps - self._moved_steps >= PATIENCE_STEPS:
            self._moved_s, self._moved_steps = now_s, steps
            self._stalled(awaited)
        return as_good(error, self._best)

    def stepped(self) -> None:
        """Count a step of refining."""
        self._taken += 1
        if self.why is None and self._taken == self._max_steps:
            self.why = f"the limit of {self._max_steps} steps"

    def _stalled(self, awaited: bool) -> None:
        """Slow down, or stop."""
        if self.fade > SLOWEST:
            self.fade *= SLOWER
        elif not awaited:
            self.why = "held-out quality stopped improving"
