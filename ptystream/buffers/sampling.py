"""Which exposures the next step sees: near each other, fresh, poorly fitted, or any."""

from dataclasses import dataclass

import numpy as np

from ptystream.buffers.store import FrameStore


@dataclass(frozen=True, slots=True)
class Mix:
    """Shares of steps that begin at a fresh or a poorly fitted exposure.

    The rest begin anywhere. ``newest`` is how many of the last arrivals are fresh.
    """

    fresh: float = 0.5
    poor: float = 0.2
    newest: int = 256


class Sampler:
    """Picks batches that fit one window of the field."""

    def __init__(self, store: FrameStore, *, batch: int, seed: int) -> None:
        self._store, self._batch = store, batch
        self._rng = np.random.default_rng(seed)
        self.loss = np.zeros(store.capacity)

    def pick(self, mix: Mix) -> np.ndarray:
        """Return slots ``[b]``, b ≤ batch, or none where nothing can be trained on."""
        trained = np.flatnonzero(~self._store.held_out[: self._store.frames])
        if not len(trained):
            return trained
        centre = self._store.position_px[self._centre(trained, mix)]
        return self.near(trained, centre)

    def near(self, slots: np.ndarray, centre_px: np.ndarray) -> np.ndarray:
        """Return a batch of ``slots`` around a point.

        Dense scans give a random draw from half a pattern around; sparse ones the
        nearest exposures, up to two patterns away.
        """
        store = self._store
        away = np.abs(store.position_px[slots] - centre_px).max(1)
        inside = slots[away <= store.size // 3]
        if len(inside) >= self._batch:
            return self._rng.choice(inside, self._batch, replace=False)
        order = np.argsort(away, kind="stable")[: self._batch]
        return slots[order[away[order] <= 2 * store.size]]

    def _centre(self, trained: np.ndarray, mix: Mix) -> int:
        """Return the slot around which the batch is gathered."""
        lot = self._rng.random()
        if lot < mix.fresh:
            newest = np.argsort(self._store.order[trained])[-mix.newest :]
            return int(self._rng.choice(trained[newest]))
        some = self._rng.choice(trained, min(8, len(trained)), replace=False)
        if lot < mix.fresh + mix.poor:
            return int(some[np.argmax(self.loss[some])])
        return int(some[0])
