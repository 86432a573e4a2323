"""How much of the time the engine may learn while a scan runs."""

import math


class Budget:
    """Rests after each step for as long as its share of the time demands.

    Pure, time is passed in. A rest follows from the step before it alone: a step that
    was slow, or time in which there was nothing to learn, is not made up for later.
    """

    def __init__(self, share: float) -> None:
        """Take the share of the time that steps may have, 0 … 1."""
        self._rest = 1 / share - 1 if share else math.inf
        self._until_s = -math.inf if share else math.inf

    def spent(self, now_s: float, took_s: float) -> None:
        """Note a step that is over now."""
        self._until_s = max(self._until_s, now_s + took_s * self._rest)

    def rest_s(self, now_s: float) -> float:
        """Return how long there is to wait before the next step; 0: it may begin."""
        return max(0.0, self._until_s - now_s)
