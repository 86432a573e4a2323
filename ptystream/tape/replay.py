"""Sends a recording again, byte for byte, when it came or as fast as it goes."""

import math
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self

import numpy as np
import zmq

from ptystream.errors import ConfigError, StoppedError
from ptystream.tape.format import Record

SPIN_NS = 200_000
"""The last stretch before a deadline is spun, for a sleep is late by some 0.06 ms. A
longer one is worse: on two cores with a load of five, 99 % of the messages were within
35 ms for 1 ms of it, 6.5 ms for 0.3 ms, 4 ms for 0.1 ms: who spins is made to wait."""
MIN_SPEED = 0.001
LATE_BIN_NS = 10_000
LATE_BINS = 10_000
"""Lateness is kept as a histogram: 10 us to 100 ms; the last bin takes the rest."""
MAX_TOPICS = 1024
"""Subscriptions remembered; more are served by zmq but not needed to know of one."""
_PATTERNS = {"pub": zmq.XPUB, "push": zmq.PUSH}


class Outlet:
    """A bound socket that a stream is replayed on.

    ``address`` may end in ``:*``; once entered it is the real one. A message that
    finds its queue (of ``high_water`` messages) full waits up to ``patience_s``,
    then is dropped; the caller counts it. While the queue stays full the next ones
    are dropped at once: a peer that hangs costs its patience once. Leaving waits up
    to ``linger_s`` for what is queued. ConfigError if it can't be bound.
    """

    def __init__(
        self,
        address: str,
        pattern: Literal["pub", "push"] = "pub",
        *,
        high_water: int = 1000,
        patience_s: float = 1.0,
        linger_s: float = 5.0,
    ) -> None:
        self.address = address
        self._pattern = pattern
        self._high_water = high_water
        self._patience_ms = round(patience_s * 1000)
        self._linger_ms = round(linger_s * 1000)
        self._topics: set[bytes] = set()
        self._full = False

    def __enter__(self) -> Self:
        if self._pattern not in _PATTERNS:
            raise ConfigError(f"outlet: {self._pattern!r}: expected pub or push")
        self._context = zmq.Context()
        self._socket = self._context.socket(_PATTERNS[self._pattern])
        self._socket.setsockopt(zmq.SNDHWM, self._high_water)
        self._socket.setsockopt(zmq.SNDTIMEO, self._patience_ms)
        if self._pattern == "pub":
            self._socket.setsockopt(zmq.XPUB_NODROP, 1)
        try:
            self._socket.bind(self.address)
        except zmq.ZMQError as e:
            self._context.destroy(linger=0)
            raise ConfigError(f"outlet {self.address!r}: {e}") from e
        self.address = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._context.destroy(linger=self._linger_ms)

    def wait_for_peer(self, timeout_s: float) -> bool:
        """Wait until someone subscribes (pub) or pulls (push)."""
        timeout_ms = round(timeout_s * 1000)
        if self._pattern == "push":
            return bool(self._socket.poll(timeout_ms, zmq.POLLOUT))
        return self._heard() or (
            bool(self._socket.poll(timeout_ms, zmq.POLLIN)) and self._heard()
        )

    def send(self, record: Record) -> bool:
        """Send the record's parts; False if nobody took it in time."""
        if self._pattern == "pub" and not self._heard():
            return False
        try:
            flags = zmq.NOBLOCK if self._full else 0
            self._socket.send_multipart(record.parts, flags)
        except zmq.Again:
            self._full = True
            return False
        self._full = False
        return True

    def _heard(self) -> bool:
        """Take in who subscribed and who left; tell whether anyone is there."""
        while self._socket.poll(0, zmq.POLLIN):
            change = self._socket.recv()
            if change[:1] == b"\x01" and len(self._topics) < MAX_TOPICS:
                self._topics.add(change[1:])
            elif change[:1] == b"\x00":
                self._topics.discard(change[1:])
        return bool(self._topics)


@dataclass(frozen=True, slots=True)
class ReplayStats:
    """What a replay did.

    ``dropped`` found nobody to take them; ``unrouted`` are of a stream without an
    outlet. Lateness is against each message's own deadline, 0 when flat out.
    """

    sent: int
    sent_bytes: int
    dropped: int
    unrouted: int
    loops: int
    seconds: float
    late_p50_ms: float
    late_p99_ms: float
    late_max_ms: float
    stopped: bool


@dataclass(slots=True)
class _Counts:
    sent: int = 0
    sent_bytes: int = 0
    dropped: int = 0
    unrouted: int = 0


class _Pace:
    """When each record is due: absolute deadlines, so that nothing drifts."""

    def __init__(self, speed: float, max_gap_s: float, stop: threading.Event) -> None:
        self._speed = speed
        self._max_gap_ns = round(max_gap_s * 1e9)
        self._stop = stop
        self._start_ns = time.monotonic_ns()
        self._tape_ns = 0
        self._last_ns: int | None = None
        self._late = np.zeros(LATE_BINS, np.int64)
        self._late_max_ns = 0

    def rewind(self) -> None:
        """Take the next record's time as now's: the tape begins again."""
        self._last_ns = None

    def wait(self, record: Record) -> None:
        """Return when the record is due, or soon after a stop."""
        if not self._speed:
            return
        last = record.mono_ns if self._last_ns is None else self._last_ns
        self._tape_ns += min(max(record.mono_ns - last, 0), self._max_gap_ns)
        self._last_ns = record.mono_ns
        due_ns = self._start_ns + round(self._tape_ns / self._speed)
        self._until(due_ns)
        self._note(time.monotonic_ns() - due_ns)

    def _until(self, due_ns: int) -> None:
        nap_ns = due_ns - time.monotonic_ns() - SPIN_NS
        if nap_ns > 0 and self._stop.wait(nap_ns / 1e9):
            return
        while time.monotonic_ns() < due_ns:
            pass

    def _note(self, late_ns: int) -> None:
        self._late[min(max(late_ns, 0) // LATE_BIN_NS, LATE_BINS - 1)] += 1
        self._late_max_ns = max(self._late_max_ns, late_ns)

    def late_ms(self, share: float) -> float:
        """Return the lateness that this share of the messages stayed within."""
        below = np.cumsum(self._late)
        if not below[-1]:
            return 0.0
        bin_ = int(np.searchsorted(below, share * below[-1]))
        return min((bin_ + 1) * LATE_BIN_NS, self._late_max_ns) / 1e6

    @property
    def late_max_ms(self) -> float:
        """The latest of all."""
        return self._late_max_ns / 1e6

    @property
    def seconds(self) -> float:
        """Time since the start."""
        return (time.monotonic_ns() - self._start_ns) / 1e9


def replay(
    tape: Iterable[Record],
    outlets: Mapping[str, Outlet],
    *,
    speed: float = 1.0,
    loops: int | None = 1,
    wait_s: float = 10.0,
    max_gap_s: float = 60.0,
    stop: threading.Event | None = None,
) -> ReplayStats:
    """Send each record on its stream's outlet; ``speed`` 0 or inf is flat out.

    Waits first, up to ``wait_s``, until every outlet has a peer (0: doesn't wait).
    A pause on the tape longer than ``max_gap_s`` is shortened to it; a clock that
    goes back (a recording resumed after a reboot) counts as no pause. ``loops``
    None repeats until stopped; a tape with nothing to send ends at once.

    Raises:
        ConfigError: ``speed`` is neither 0 nor at least 0.001.
        StoppedError: an outlet has no peer after ``wait_s``.
    """
    if speed and not speed >= MIN_SPEED:
        raise ConfigError(f"replay: speed {speed}: expected >= {MIN_SPEED}, or 0")
    stop = stop or threading.Event()
    _await_peers(outlets, wait_s, stop)
    pace = _Pace(0.0 if math.isinf(speed) else speed, max_gap_s, stop)
    counts = _Counts()
    done = 0
    while not stop.is_set() and (loops is None or done < loops):
        pace.rewind()
        if not _play(tape, outlets, pace, stop, counts):
            break
        done += not stop.is_set()
    return ReplayStats(
        sent=counts.sent,
        sent_bytes=counts.sent_bytes,
        dropped=counts.dropped,
        unrouted=counts.unrouted,
        loops=done,
        seconds=pace.seconds,
        late_p50_ms=pace.late_ms(0.5),
        late_p99_ms=pace.late_ms(0.99),
        late_max_ms=pace.late_max_ms,
        stopped=stop.is_set(),
    )


def _await_peers(
    outlets: Mapping[str, Outlet], wait_s: float, stop: threading.Event
) -> None:
    deadline = time.monotonic() + wait_s
    for stream, outlet in outlets.items() if wait_s > 0 else ():
        while not stop.is_set() and not outlet.wait_for_peer(0.1):
            if time.monotonic() > deadline:
                raise StoppedError(
                    f"replay of {stream} on {outlet.address}: nobody came in {wait_s} s"
                )


def _play(
    tape: Iterable[Record],
    outlets: Mapping[str, Outlet],
    pace: _Pace,
    stop: threading.Event,
    counts: _Counts,
) -> int:
    """Play the tape once; return for how many records there was an outlet."""
    played = 0
    for record in tape:
        outlet = outlets.get(record.stream)
        if outlet is None:
            counts.unrouted += 1
            continue
        played += 1
        pace.wait(record)
        if stop.is_set():
            break
        if outlet.send(record):
            counts.sent += 1
            counts.sent_bytes += sum(map(len, record.parts))
        else:
            counts.dropped += 1
    return played
