"""The frame store: a fixed allocation on the device, filled as frames arrive."""

import heapq
from collections import deque
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

HELD_OUT_HASH = 2654435761
"""Knuth's multiplier: spreads held-out indices over lines and columns of a raster."""


@dataclass(frozen=True, slots=True)
class StoreStats:
    """``evicted`` frames made room for newer ones in the most crowded places."""

    capacity: int
    frames: int
    held_out: int
    evicted: int


def is_held_out(index: int, share: float) -> bool:
    """Tell whether an exposure is never trained on; depends on its index alone."""
    return (index * HELD_OUT_HASH % 2**32) < share * 2**32


class FrameStore:
    """Counts ``[capacity, k, k]`` in 2 or 4 bytes, and where each was taken.

    When full, the oldest frame of the most crowded place makes room, so that every
    region of a long scan stays represented. A place is a square of a quarter pattern,
    and doubles whenever the scan has more places than a quarter of the store.
    """

    def __init__(
        self,
        capacity: int,
        size: int,
        *,
        held_out_share: float,
        wide: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        """Take the memory: ``capacity · size² · (4 if wide else 2)`` bytes."""
        self.capacity, self.size, self.device = capacity, size, torch.device(device)
        self.held_out_share = held_out_share
        kind = torch.int32 if wide else torch.int16
        self._wide = wide
        self.counts = torch.zeros((capacity, size, size), dtype=kind, device=device)
        self.position_px = np.zeros((capacity, 2))
        self.index = np.full(capacity, -1, np.int64)
        self.held_out = np.zeros(capacity, bool)
        self.loss = torch.full((capacity,), torch.inf, device=device)
        self.order = np.zeros(capacity, np.int64)
        self.frames = self.evicted = self.arrivals = 0
        self._place_px = size / 4
        self._places: dict[tuple[int, int], deque[int]] = {}
        self._crowds: list[tuple[int, tuple[int, int]]] = []

    def put(self, index: int, counts: np.ndarray, position_px: np.ndarray) -> int:
        """Keep one exposure; return its slot.

        Args:
            index: the trigger index.
            counts: ``[k, k]`` photons, zero frequency in the centre.
            position_px: (y, x) of the probe's centre in object pixels.
        """
        slot = self.frames if self.frames < self.capacity else self._evict()
        self.frames = max(self.frames, slot + 1)
        self.counts[slot].copy_(self._packed(counts), non_blocking=True)
        self.position_px[slot] = position_px
        self.index[slot] = index
        self.held_out[slot] = is_held_out(index, self.held_out_share)
        self.loss[slot] = torch.inf
        self.order[slot] = self.arrivals
        self.arrivals += 1
        self._enter(slot)
        return slot

    def amplitude(self, slots: Int[Tensor, " b"]) -> Float[Tensor, "b k k"]:
        """Return √counts of these slots, widened on the device."""
        counts = self.counts.index_select(0, slots)
        if self._wide:
            counts = counts.float().clamp_(min=0)
        else:
            counts = counts.view(torch.uint16).float()
        # Most counts are 0, and the CPU's sqrt takes 6 times as long there.
        return counts.rsqrt_().reciprocal_()

    def stats(self) -> StoreStats:
        """Return what the store holds."""
        held = int(self.held_out[: self.frames].sum())
        return StoreStats(self.capacity, self.frames, held, self.evicted)

    def _packed(self, counts: np.ndarray) -> Tensor:
        """Return the counts as a tensor of the store's kind, bits kept."""
        if self._wide:
            return torch.from_numpy(counts.astype(np.int64).clip(max=2**31 - 1)).int()
        if counts.dtype.itemsize > 2:
            counts = counts.clip(max=0xFFFF)
        return torch.from_numpy(counts.astype(np.uint16).view(np.int16))

    def _place(self, slot: int) -> tuple[int, int]:
        """Return the square in which a slot's exposure lies."""
        y, x = np.floor(self.position_px[slot] / self._place_px).astype(int)
        return int(y), int(x)

    def _enter(self, slot: int) -> None:
        """Note the slot in its place."""
        self._join(slot)
        while len(self._places) > max(self.capacity // 4, 1):
            self._coarsen()

    def _coarsen(self) -> None:
        """Double the places, and sort all slots into them, oldest first."""
        self._place_px *= 2
        self._places.clear()
        self._crowds.clear()
        for slot in np.argsort(self.order[: self.frames]):
            self._join(int(slot))

    def _join(self, slot: int) -> None:
        """Add the slot to the crowd of its place."""
        place = self._place(slot)
        crowd = self._places.setdefault(place, deque())
        crowd.append(slot)
        heapq.heappush(self._crowds, (-len(crowd), place))
        if len(self._crowds) > 4 * self.capacity:  # most are of sizes long past
            self._crowds = [(-len(c), p) for p, c in self._places.items()]
            heapq.heapify(self._crowds)

    def _evict(self) -> int:
        """Free the oldest slot of the most crowded place."""
        while True:
            size, place = heapq.heappop(self._crowds)
            crowd = self._places.get(place)
            if crowd is not None and len(crowd) == -size:
                break
        slot = crowd.popleft()
        self.evicted += 1
        if crowd:
            heapq.heappush(self._crowds, (-len(crowd), place))
        else:
            del self._places[place]
        return slot
