"""Sends a recording again, byte for byte, when it came or as fast as it goes."""

import math
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ptystream.errors import ConfigError, StoppedError
from ptystream.tape.format import Record
from ptystream.tape.outlets import Outlet
from ptystream.tape.pace import Pace

MIN_SPEED = 0.001


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
    pace = Pace(0.0 if math.isinf(speed) else speed, max_gap_s, stop)
    counts = _Counts()
    done = 0
    while not stop.is_set() and (loops is None or done < loops):
        pace.rewind()
        for outlet in outlets.values() if done else ():
            outlet.rewind()
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
    pace: Pace,
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
