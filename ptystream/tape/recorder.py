"""Records live streams byte for byte, without ever holding them up.

One thread receives and stamps, one writes; between them a bounded backlog. If the
disk is slower than the beamline, messages are dropped and counted, never waited for.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ptystream.errors import TapeError
from ptystream.tape.backlog import Backlog
from ptystream.tape.log import TapeWriter
from ptystream.tape.taps import Listener, Tap

POLL_MS = 50
"""How soon a stop is seen when nothing arrives."""
DRAIN_S = 1.0
"""After a stop, the longest time spent on what zmq has already received."""


@dataclass(frozen=True, slots=True)
class RecorderStats:
    """What a recorder has done so far.

    received = written + dropped (backlog full) + refused (over the limits) + those
    still waiting. ``scans_ended`` counts per stream the scans whose end was seen;
    ``undecodable`` messages are on the tape as any other.
    """

    received: int
    received_bytes: int
    written: int
    dropped: int
    refused: int
    undecodable: int
    scans_ended: Mapping[str, int]


class Recorder:
    """Writes taps to a new tape until stopped, until ``scans`` ended, or until idle.

    ``scans`` waits for that many scans' ends on every tap. ``idle_s`` counts from the
    last message that is no heartbeat, once there was one. ``header`` goes into the
    tape's own. Leaving the context saves all that was received; it raises TapeError
    if the tape could not be written.
    """

    def __init__(
        self,
        taps: Sequence[Tap],
        path: str | Path,
        *,
        header: Mapping[str, Any] | None = None,
        scans: int | None = None,
        idle_s: float | None = None,
        backlog_messages: int = 100_000,
        backlog_bytes: int = 256 << 20,
        fsync_s: float | None = 1.0,
        high_water: int = 1000,
        max_part_bytes: int = 256 << 20,
        grace_s: float = 30.0,
    ) -> None:
        self._path, self._grace_s = path, grace_s
        self._scans, self._idle_s = scans, idle_s
        self._backlog = Backlog(backlog_messages, backlog_bytes)
        self._listener = Listener(
            taps, self._backlog, high_water=high_water, max_part_bytes=max_part_bytes
        )
        described = {**(header or {}), "taps": [tap.info.as_dict() for tap in taps]}
        self._writer = TapeWriter(path, described, fsync_s=fsync_s)
        self._written = 0
        self._stop, self._finished = threading.Event(), threading.Event()
        self._errors: list[Exception] = []
        self._open = ExitStack()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self._listener)
            stack.enter_context(self._writer)
            self._open = stack.pop_all()
        for name, work in ("receive", self._receive), ("write", self._write):
            self._start(f"ptystream-tape-{name}", work)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        for thread in self._threads:  # the receiver first: nothing new comes
            thread.join(self._grace_s)
            if thread.is_alive():
                raise TapeError(f"{self._path}: {thread.name} still busy: disk stuck?")
        try:
            self._open.close()
        except TapeError as e:
            self._errors.append(e)
        if self._errors and error is None:
            first = self._errors[0]
            raise TapeError(f"{self._path}: recording failed: {first}") from first

    def stop(self) -> None:
        """Ask it to stop, from any thread."""
        self._stop.set()

    def wait(self, timeout_s: float) -> bool:
        """Wait until it has stopped and written everything; False after timeout_s."""
        return self._finished.wait(timeout_s)

    def stats(self) -> RecorderStats:
        """Return the counts so far, from any thread."""
        return RecorderStats(
            received=self._listener.received,
            received_bytes=self._listener.received_bytes,
            written=self._written,
            dropped=self._listener.dropped,
            refused=self._listener.refused,
            undecodable=self._listener.undecodable,
            scans_ended=self._listener.scans_ended,
        )

    def _start(self, name: str, work: Callable[[], None]) -> None:
        thread = threading.Thread(
            target=self._guarded, args=(work,), name=name, daemon=True
        )
        self._threads.append(thread)
        thread.start()

    def _guarded(self, work: Callable[[], None]) -> None:
        """Run a thread's work; when one ends, so does the other."""
        try:
            work()
        except Exception as e:  # noqa: BLE001
            self._errors.append(e)
        finally:
            self._stop.set()
            self._backlog.close()

    def _receive(self) -> None:
        while not (self._stop.is_set() or self._complete() or self._idle()):
            self._listener.turn(POLL_MS)
        deadline = time.monotonic() + DRAIN_S
        while time.monotonic() < deadline and self._listener.turn(0):
            pass

    def _write(self) -> None:
        try:
            while not self._backlog.done:
                if records := self._backlog.take(POLL_MS / 1000):
                    self._writer.append_batch(records)
                    self._written += len(records)
        finally:
            self._finished.set()

    def _complete(self) -> bool:
        if self._scans is None:
            return False
        return min(self._listener.scans_ended.values()) >= self._scans

    def _idle(self) -> bool:
        if self._idle_s is None or self._listener.active_s is None:
            return False
        return time.monotonic() - self._listener.active_s > self._idle_s
