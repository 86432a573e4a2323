"""Which exposures the next step sees: fresh, poorly fitted, or any, near each other."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from ptystream.buffers.store import FrameStore

NEAREST = 2.0
"""Where a batch does not find enough within its reach: this far, in patterns."""


@dataclass(frozen=True, slots=True)
class Mix:
    """Shares of a batch that are fresh, or the worst fitted of a draw.

    The rest is any. ``newest`` is how many of the last arrivals are fresh.
    """

    fresh: float = 0.5
    poor: float = 0.2
    newest: int = 256


class Sampler:
    """Picks batches within a ``reach`` in patterns, so that one window holds them.

    Neighbours repeat each other: for pixels, whose cost is that of the patterns, a wide
    reach learns most of a step. For networks the cost is that of the window.
    """

    def __init__(
        self,
        store: FrameStore,
        *,
        batch: int,
        reach: float,
        seed: int,
        parity: int | None = None,
    ) -> None:
        """Begin; ``parity`` 0 or 1: exposures of even, of odd index alone."""
        self._store, self._batch, self._reach = store, batch, reach
        self._parity = parity
        self._rng = np.random.default_rng(seed)
        self.loss = np.zeros(store.capacity)
        self._met = store.arrivals

    def saw(self, loss: Float[np.ndarray, " n"], arrivals: int) -> None:
        """Take note of the slots' losses as they were after so many arrivals.

        Infinite where an exposure had not been picked yet: what is known here stays.
        """
        known = np.isfinite(loss) & (self._store.order < arrivals)
        self.loss[known] = loss[known]

    def pick(self, mix: Mix) -> np.ndarray:
        """Return slots ``[b]``, b ≤ batch, or none where nothing can be trained on."""
        self._meet()
        slots = self._picked(mix)
        self.loss[slots] = np.nan_to_num(self.loss[slots], posinf=0.0)
        return slots

    def _meet(self) -> None:
        """Take what has come since as poorly fitted, until it has been picked once."""
        if self._met < self._store.arrivals:
            self.loss[self._store.order >= self._met] = np.inf
            self._met = self._store.arrivals

    def _picked(self, mix: Mix) -> np.ndarray:
        """Return the slots of the next batch."""
        store = self._store
        trained = np.flatnonzero(~store.held_out[: store.frames])
        if self._parity is not None:
            trained = trained[store.index[trained] % 2 == self._parity]
        if not len(trained):
            return trained
        centre = store.position_px[self._centre(trained, mix)]
        y, x = np.abs(store.position_px[trained] - centre).T
        away = np.maximum(y, x)  # 3 times faster than max(1)
        inside = trained[away <= self._reach * store.size]
        if len(inside) > self._batch:
            return self._mixed(inside, mix)
        order = np.argsort(away, kind="stable")[: self._batch]
        return trained[order[away[order] <= max(NEAREST, self._reach) * store.size]]

    def _centre(self, trained: np.ndarray, mix: Mix) -> int:
        """Return the slot around which the batch is gathered."""
        lot = self._rng.random()
        fresh = self._fresh(trained, mix)
        if lot < mix.fresh and len(fresh):
            return int(self._rng.choice(fresh))
        if lot < mix.fresh + mix.poor:
            return int(self._worst(trained, 1)[0])
        return int(self._rng.choice(trained))

    def _mixed(self, slots: np.ndarray, mix: Mix) -> np.ndarray:
        """Return a batch of these slots, each at most once."""
        fresh = self._fresh(slots, mix)
        count = min(len(fresh), round(mix.fresh * self._batch))
        drawn = np.concatenate(
            [
                self._rng.choice(fresh, count, replace=False),
                self._worst(slots, round(mix.poor * self._batch)),
                self._rng.choice(slots, self._batch, replace=False),
            ]
        )
        first = np.sort(np.unique(drawn, return_index=True)[1])
        return drawn[first[: self._batch]]

    def _fresh(self, slots: np.ndarray, mix: Mix) -> np.ndarray:
        """Return those among the last arrivals."""
        return slots[self._store.order[slots] >= self._store.arrivals - mix.newest]

    def _worst(self, slots: np.ndarray, count: int) -> np.ndarray:
        """Return the worst fitted of a draw eight times as large."""
        some = self._rng.choice(slots, min(8 * count, len(slots)), replace=False)
        return some[np.argsort(self.loss[some])[len(some) - min(count, len(some)) :]]
