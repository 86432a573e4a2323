"""Frames on their way to a device, without anybody waiting for it."""

from collections import deque

import torch
from torch import Tensor

DEPTH = 64
"""Frames that may be under way; the next waits for the oldest copy, never for steps."""


class Staging:
    """Copies frames from pinned memory on a stream of its own, beside the steps'.

    From ordinary memory a copy waits for the driver; from pinned memory the device
    fetches it by itself. Only for CUDA devices.
    """

    def __init__(
        self, shape: tuple[int, int], kind: torch.dtype, device: torch.device
    ) -> None:
        """Take ``DEPTH`` frames of pinned memory."""
        self._device = device
        self._stream = torch.cuda.Stream(device)
        self._free = deque(
            torch.empty(shape, dtype=kind, pin_memory=True) for _ in range(DEPTH)
        )
        self._under_way: deque[tuple[Tensor, torch.cuda.Event]] = deque(maxlen=DEPTH)

    def send(self, frame: Tensor, to: Tensor, *, used: bool) -> None:
        """Copy a frame to its place; ``used``: steps begun before may still read it."""
        pinned = self._buffer()
        pinned.copy_(frame)
        if used:
            self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            to.copy_(pinned, non_blocking=True)
        copied = torch.cuda.Event()
        copied.record(self._stream)
        self._under_way.append((pinned, copied))

    def await_sent(self) -> None:
        """Have what is asked of the device from now on see all that was sent."""
        torch.cuda.current_stream(self._device).wait_stream(self._stream)

    def _buffer(self) -> Tensor:
        """Return a frame of pinned memory that no copy reads any more."""
        while self._under_way and self._under_way[0][1].query():
            self._free.append(self._under_way.popleft()[0])
        if not self._free:
            pinned, copied = self._under_way.popleft()
            copied.synchronize()
            return pinned
        return self._free.popleft()
