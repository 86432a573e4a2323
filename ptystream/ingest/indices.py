"""A set of indices that stays small: scans are long runs with a few holes."""

from bisect import bisect_right


class IndexSet:
    """Whole numbers as sorted runs ``[start, stop)``, at most ``max_runs`` of them.

    One run too many closes the lowest gap: its numbers then count as members. So what
    is forgotten is that an old index is still missing, never that one was seen.
    """

    def __init__(self, max_runs: int = 4096) -> None:
        self._starts: list[int] = []
        self._stops: list[int] = []
        self._max_runs = max_runs

    def __contains__(self, index: int) -> bool:
        at = bisect_right(self._starts, index) - 1
        return at >= 0 and index < self._stops[at]

    @property
    def runs(self) -> int:
        """Return how many runs are kept."""
        return len(self._starts)

    def add(self, index: int) -> None:
        """Add one number; a member may be added again."""
        if index in self:
            return
        at = bisect_right(self._starts, index)
        joins_left = at > 0 and self._stops[at - 1] == index
        joins_right = at < self.runs and self._starts[at] == index + 1
        if joins_left and joins_right:
            self._join(at)
        elif joins_left:
            self._stops[at - 1] += 1
        elif joins_right:
            self._starts[at] -= 1
        else:
            self._starts.insert(at, index)
            self._stops.insert(at, index + 1)
            if self.runs > self._max_runs:
                self._join(1)

    def _join(self, at: int) -> None:
        """Join run ``at`` to the one below it."""
        del self._starts[at]
        del self._stops[at - 1]
