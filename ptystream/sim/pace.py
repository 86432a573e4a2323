"""Keeping time: absolute deadlines, and frames made ahead of theirs."""

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator

from ptystream.wire.envelope import EncodedFrame

SLICE_S = 0.05
"""Longest wait in one go: how soon a stop is seen, and how often ``idle`` is called."""


class Pacer:
    """Waits for moments after a common start; a late one doesn't delay the next."""

    def __init__(
        self, start_s: float, halt: threading.Event, idle: Callable[[], object]
    ) -> None:
        self._start_s = start_s
        self._halt = halt
        self._idle = idle
        self.late_s = 0.0
        """The worst delay of any deadline so far."""

    @property
    def halted(self) -> bool:
        """Tell whether the scan is to halt."""
        return self._halt.is_set()

    def elapsed_s(self) -> float:
        """Return the time since the start."""
        return time.monotonic() - self._start_s

    def wait(self, due_s: float) -> bool:
        """Wait until ``due_s`` after the start; False if the scan is to halt."""
        while (left := due_s - self.elapsed_s()) > 0:
            if self._halt.wait(min(left, SLICE_S)):
                return False
            self._idle()
        self.late_s = max(self.late_s, -left)
        return not self.halted


class Ahead:
    """Frames waiting to be sent, at most ``capacity``; the maker waits when it is full.

    One thread fills, another takes. Both give up when the scan halts.
    """

    def __init__(self, capacity: int, halt: threading.Event) -> None:
        self._queue: queue.Queue[EncodedFrame | None] = queue.Queue(capacity)
        self._halt = halt
        self._done = threading.Event()

    @property
    def ready(self) -> bool:
        """Tell whether all frames are made, or as many as there is room for."""
        return self._done.is_set() or self._queue.full()

    def fill(self, frames: Iterable[EncodedFrame]) -> None:
        """Make and store every frame, then mark the end."""
        for frame in frames:
            if not self._put(frame):
                return
        self._done.set()
        self._put(None)

    def __iter__(self) -> Iterator[EncodedFrame]:
        """Yield the frames in order, to the end or until the scan halts."""
        while not self._halt.is_set():
            try:
                frame = self._queue.get(timeout=SLICE_S)
            except queue.Empty:
                continue
            if frame is None:
                return
            yield frame

    def _put(self, frame: EncodedFrame | None) -> bool:
        while not self._halt.is_set():
            try:
                self._queue.put(frame, timeout=SLICE_S)
            except queue.Full:
                continue
            return True
        return False
