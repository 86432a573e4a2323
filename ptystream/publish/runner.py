"""One thread per sink: a slow, hanging or raising sink holds up nobody but itself."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Self

from ptystream.publish.sink import FrameCounts, RunEnd, RunInfo, Sink
from ptystream.recon.snapshot import Snapshot

log = logging.getLogger(__name__)

WAITING_RUNS = 4
"""Runs that may wait for a sink that hangs; further runs are refused and counted."""


@dataclass(frozen=True, slots=True)
class SinkStats:
    """What one sink has done: messages, except where the name says otherwise.

    ``skipped`` updates were overtaken by newer ones. ``refused_runs`` came while
    too many runs waited. ``in_flight_s`` is how long the present call has lasted.
    """

    name: str
    delivered: int
    skipped: int
    failures: int
    refused_runs: int
    in_flight_s: float


class SinkThread:
    """Runs a sink in a thread of its own; no method but ``close`` ever waits.

    Starts and stops wait in a queue bounded by ``waiting_runs``: a run is taken
    whole or refused whole. Updates and ``soon`` share latest-wins slots of one.
    A sink that raises is counted, logged once per kind and run, and tried again at
    the next message; a start that failed is repeated before the next message.
    """

    def __init__(
        self,
        sink: Sink,
        waiting_runs: int = WAITING_RUNS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = sink.name
        self._sink = sink
        self._clock = clock
        self._waiting_runs = waiting_runs
        self._wake = threading.Condition()
        self._queue: deque[tuple[str, Callable[[], None]]] = deque()
        self._update: Callable[[], None] | None = None
        self._soon: Callable[[], None] | None = None
        self._open = False
        self._waiting = 0
        self._closing = False
        self._unstarted: RunInfo | None = None
        self._delivered = self._skipped = self._failures = self._refused = 0
        self._doing = ""
        self._since_s: float | None = None
        self._logged: set[str] = set()
        self._thread = threading.Thread(
            target=self._run, name=f"sink-{sink.name}", daemon=True
        )

    def __enter__(self) -> Self:
        """Start the thread."""
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        """Close with the default patience."""
        self.close()

    def start(self, info: RunInfo) -> bool:
        """Hand over a run's start; False if the run is refused."""
        with self._wake:
            self._open = not self._closing and self._waiting < self._waiting_runs
            if self._open:
                self._waiting += 1
                self._put("start", partial(self._start, info))
            else:
                self._refused += 1
            return self._open

    def update(self, snapshot: Snapshot, frames: FrameCounts) -> None:
        """Hand over the newest snapshot; one that still waits is skipped."""
        with self._wake:
            if not self._open:
                return
            self._skipped += self._update is not None
            self._update = partial(self._started, self._sink.update, snapshot, frames)
            self._wake.notify()

    def stop(self, snapshot: Snapshot | None, frames: FrameCounts, end: RunEnd) -> None:
        """Hand over a run's end; an update that still waits is skipped for it."""
        with self._wake:
            if not self._open:
                return
            self._open = False
            self._skipped += self._update is not None
            self._update = None
            call = partial(self._started, self._sink.stop, snapshot, frames, end)
            self._put("stop", call)

    def soon(self, action: Callable[[], None]) -> None:
        """Run an action of the sink (save, say) in its thread; the latest wins."""
        with self._wake:
            self._soon = action
            self._wake.notify()

    def close(self, timeout_s: float = 10.0) -> bool:
        """Deliver what waits, close the sink; False if it hangs and is left behind."""
        with self._wake:
            self._open = False
            self._closing = True
            self._wake.notify()
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            log.error("sink %s hangs in %s: left behind", self.name, self._doing)
        return not self._thread.is_alive()

    def stats(self) -> SinkStats:
        """Return the counts so far; callable from any thread."""
        with self._wake:
            since_s = self._since_s
            flight_s = 0.0 if since_s is None else self._clock() - since_s
            return SinkStats(
                self.name,
                self._delivered,
                self._skipped,
                self._failures,
                self._refused,
                flight_s,
            )

    def _put(self, what: str, call: Callable[[], None]) -> None:
        self._queue.append((what, call))
        self._wake.notify()

    def _next(self) -> tuple[str, Callable[[], None]] | None:
        """Wait for work: the queue first, so that a start precedes its updates."""
        with self._wake:
            while True:
                if self._queue:
                    what, call = self._queue.popleft()
                    self._waiting -= what == "start"
                    return what, call
                if self._update is not None:
                    call, self._update = self._update, None
                    return "update", call
                if self._soon is not None:
                    call, self._soon = self._soon, None
                    return "action", call
                if self._closing:
                    return None
                self._wake.wait()

    def _run(self) -> None:
        while (work := self._next()) is not None:
            self._call(*work)
        self._call("close", self._sink.close)

    def _call(self, what: str, call: Callable[[], None]) -> None:
        with self._wake:
            self._doing, self._since_s = what, self._clock()
        try:
            call()
        except Exception as error:  # noqa: BLE001 - the top of the thread: any sink
            self._failed(what, error)
        else:
            with self._wake:
                self._delivered += 1
        with self._wake:
            self._doing, self._since_s = "", None

    def _failed(self, what: str, error: Exception) -> None:
        with self._wake:
            self._failures += 1
        kind = f"{what}: {type(error).__name__}"
        if kind not in self._logged:
            self._logged.add(kind)
            log.error("sink %s: %s: %s", self.name, kind, error, exc_info=error)

    def _start(self, info: RunInfo) -> None:
        self._logged.clear()
        self._unstarted = info
        self._sink.start(info)
        self._unstarted = None

    def _started(self, call: Callable[..., None], *args: object) -> None:
        """Call a sink that knows its run: repeat the start if it failed."""
        if self._unstarted is not None:
            self._sink.start(self._unstarted)
            self._unstarted = None
        call(*args)
