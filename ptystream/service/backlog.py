"""Events on their way from the sockets to the engine."""

import heapq
import itertools
import threading
from collections import OrderedDict

from ptystream.ingest.scans import Event, ScanOpened
from ptystream.wire.messages import Exposure

REMEMBERED = 16
"""Scans whose dropped exposures are remembered; the oldest is forgotten."""
CALM = 8
"""Thinning is over once less than this part of the room is taken."""
SPREAD = 1779033703
"""2³² times the fraction of √2: shares of a scan lie evenly over it, and over the
columns of a raster, and have nothing to do with which frames are held out."""


class Backlog:
    """Events on their way to the engine; thinned when more come than it takes.

    When it is full, that exposure goes whose index draws the highest lot: what is left
    lies evenly over the scan. Dropping the oldest instead left blocks of lines out.
    Openings and closings are few and are never dropped.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._events: OrderedDict[int, Event] = OrderedDict()
        self._numbers = itertools.count()
        self._lots: list[tuple[int, int]] = []
        self._exposures = 0
        self._thins = False
        self._lock = threading.Condition()
        self._dropped: OrderedDict[str, int] = OrderedDict()

    def put(self, events: list[Event]) -> None:
        """Add events; never waits."""
        if not events:
            return
        with self._lock:
            for event in events:
                number = next(self._numbers)
                self._events[number] = event
                if isinstance(event, Exposure):
                    self._enter(number, event.frame.index)
                elif isinstance(event, ScanOpened):
                    self._dropped.pop(event.start.scan, None)
            self._lock.notify()

    def take(self, most: int, timeout_s: float) -> list[Event]:
        """Return up to ``most`` events; waits at most so long for the first."""
        with self._lock:
            if not self._events and timeout_s > 0:
                self._lock.wait(timeout_s)
            count = min(most, len(self._events))
            taken = [self._events.popitem(last=False)[1] for _ in range(count)]
            self._exposures -= sum(isinstance(e, Exposure) for e in taken)
            if CALM * self._exposures < self._capacity:
                self._thins = False
            return taken

    def dropped(self, scan: str) -> int:
        """Return how many exposures of a scan were dropped since it opened."""
        with self._lock:
            return self._dropped.get(scan, 0)

    def fill(self) -> float:
        """Return the share of the room for exposures that is taken."""
        return self._exposures / self._capacity

    @property
    def detail(self) -> str:
        """Return what to tell a human while it thins, else an empty text."""
        return "frames come faster than the engine takes them" if self._thins else ""

    def _enter(self, number: int, index: int) -> None:
        """Note an exposure's lot, and keep to the room there is."""
        heapq.heappush(self._lots, (-(index * SPREAD % 2**32), number))
        if self._exposures < self._capacity:
            self._exposures += 1
        else:
            self._drop()
        if len(self._lots) > 4 * self._capacity:  # most are of what was taken
            self._lots = [lot for lot in self._lots if lot[1] in self._events]
            heapq.heapify(self._lots)

    def _drop(self) -> None:
        """Remove the exposure of the highest lot; of equal ones the oldest."""
        while True:
            event = self._events.pop(heapq.heappop(self._lots)[1], None)
            if isinstance(event, Exposure):
                break
        self._thins = True
        scan = event.frame.scan
        self._dropped[scan] = self._dropped.pop(scan, 0) + 1
        if len(self._dropped) > REMEMBERED:
            self._dropped.popitem(last=False)
