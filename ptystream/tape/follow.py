"""A tape that is still being written, read as it grows."""

import fcntl
import time
from collections.abc import Callable, Iterator

from ptystream.tape.format import Record
from ptystream.tape.log import TapeReader, record_bytes

LOOK_S = 0.05


class GrowingTape:
    """Iterates over a tape's records, and waits for more while someone writes it.

    It ends when the writer has gone and all is read, after ``idle_s`` without anything
    new, or when ``stop`` says so; it calls ``idle`` each time it finds nothing new.
    ``begin`` is the offset from which on it reads, of a record or within one; 0: all.
    """

    def __init__(
        self,
        tape: TapeReader,
        *,
        begin: int = 0,
        idle_s: float | None = None,
        stop: Callable[[], bool] = lambda: False,
        idle: Callable[[], None] = lambda: None,
    ) -> None:
        self._tape, self._idle_s, self._begin = tape, idle_s, begin
        self._stop, self._idle = stop, idle

    def __iter__(self) -> Iterator[Record]:
        at, news_s = max(self._begin, self._tape.first), time.monotonic()
        while not self._stop():
            alive = being_written(self._tape)  # asked before the last look
            for record in self._tape.records(at):
                at = record.offset + record_bytes(record)
                news_s = time.monotonic()
                yield record
                if self._stop():
                    return
            quiet_s = time.monotonic() - news_s
            if not alive or (self._idle_s is not None and quiet_s >= self._idle_s):
                return
            self._idle()
            time.sleep(LOOK_S)


def being_written(tape: TapeReader) -> bool:
    """Tell whether a writer holds the tape."""
    try:
        fcntl.flock(tape.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(tape.fileno(), fcntl.LOCK_UN)
    return False
