"""The frame store: a fixed allocation on the device, filled as frames arrive."""

import heapq
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ptystream.buffers.staging import Staging

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

    When full, a frame of the most crowded place makes room, by lot, so that every
    region of a long scan stays represented: without the oldest of each place, lines
    would be missing. A place is a square of a quarter pattern, and doubles whenever the
    scan has more places than a quarter of the store.
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
        self._staging: Staging | None = None
        if self.device.type == "cuda":
            self._staging = Staging((size, size), kind, self.device)
        self.position_px = np.zeros((capacity, 2))
        self.index = np.full(capacity, -1, np.int64)
        self.held_out = np.zeros(capacity, bool)
        self.loss = torch.full((capacity,), torch.inf, device=device)
        self.order = np.zeros(capacity, np.int64)
        self.frames = self.evicted = self.arrivals = 0
        self._place_px = size / 4
        self._places: dict[tuple[int, int], list[int]] = {}
        self._crowds: list[tuple[int, int, tuple[int, int]]] = []
        self._lots = 0

    def put(self, index: int, counts: np.ndarray, position_px: np.ndarray) -> int:
        """Keep one exposure; return its slot.

        Args:
            index: the trigger index.
            counts: ``[k, k]`` photons, zero frequency in the centre.
            position_px: (y, x) of the probe's centre in object pixels.
        """
        full = self.frames == self.capacity
        slot = self._evict() if full else self.frames
        self.frames = max(self.frames, slot + 1)
        self._copy(self._packed(counts), slot, used=full)
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
        if self._staging is not None:
            self._staging.await_sent()
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

    def _copy(self, frame: Tensor, slot: int, *, used: bool) -> None:
        """Copy a frame into a slot; ``used``: it held another."""
        if self._staging is None:
            self.counts[slot].copy_(frame)
        else:
            self._staging.send(frame, self.counts[slot], used=used)

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
        """Double the places, and sort all slots into them."""
        self._place_px *= 2
        self._places.clear()
        self._crowds.clear()
        for slot in range(self.frames):
            self._join(slot)

    def _join(self, slot: int) -> None:
        """Add the slot to the crowd of its place."""
        place = self._place(slot)
        crowd = self._places.setdefault(place, [])
        crowd.append(slot)
        self._note(place)
        if len(self._crowds) > 4 * self.capacity:  # most are of sizes long past
            self._crowds.clear()
            for known in self._places:
                self._note(known)

    def _note(self, place: tuple[int, int]) -> None:
        """Enter how crowded a place is by now; the lot decides among equals.

        By the place itself, the first rows of a raster would be emptied first.
        """
        crowd = (-len(self._places[place]), self._lot(), place)
        heapq.heappush(self._crowds, crowd)

    def _lot(self) -> int:
        """Draw one of 2³²; the same frames in the same order draw the same lots."""
        self._lots += 1
        return self._lots * HELD_OUT_HASH % 2**32

    def _evict(self) -> int:
        """Free one slot of the most crowded place."""
        while True:
            size, _, place = heapq.heappop(self._crowds)
            crowd = self._places.get(place)
            if crowd is not None and len(crowd) == -size:
                break
        drawn = self._lot() * len(crowd) >> 32
        slot, crowd[drawn] = crowd[drawn], crowd[-1]
        crowd.pop()
        self.evicted += 1
        if crowd:
            self._note(place)
        else:
            del self._places[place]
        return slot
