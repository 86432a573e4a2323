"""The bounded queue between the thread that receives and the thread that writes."""

import threading
from collections import deque

from ptystream.tape.format import Record


class Backlog:
    """Records waiting for the disk, bounded in number and bytes; never makes wait.

    Policy when full: the newest record is refused, and the caller counts it. What
    was taken last counts as held until the next take: it is still being written.
    """

    def __init__(self, max_records: int, max_bytes: int) -> None:
        self._max_records = max_records
        self._max_bytes = max_bytes
        self._records: deque[Record] = deque()
        self._bytes = 0
        self._taken = (0, 0)
        self._closed = False
        self._changed = threading.Condition()

    def put(self, record: Record) -> bool:
        """Take the record in; False if there is no room."""
        size = sum(map(len, record.parts))
        with self._changed:
            records, taken_bytes = self._taken
            if len(self._records) + records >= self._max_records:
                return False
            if self._bytes + taken_bytes + size > self._max_bytes:
                return False
            self._records.append(record)
            self._bytes += size
            self._changed.notify()
            return True

    def take(self, timeout_s: float) -> list[Record]:
        """Return all that waits, oldest first; empty after timeout_s or at the end."""
        with self._changed:
            self._taken = (0, 0)
            self._changed.wait_for(lambda: self._records or self._closed, timeout_s)
            taken = list(self._records)
            self._taken = (len(taken), self._bytes)
            self._records.clear()
            self._bytes = 0
            return taken

    def close(self) -> None:
        """Say that nothing more comes."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    @property
    def done(self) -> bool:
        """Tell whether it is closed and empty."""
        with self._changed:
            return self._closed and not self._records
