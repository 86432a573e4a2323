"""From loose messages to scans: opened, exposed, closed, one after the other.

A pure state machine: the caller passes the clock and calls ``tick`` when idle.
"""

from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass

from ptystream.ingest.events import (
    CLOSE_REASONS,
    CloseReason,
    Event,
    ScanClosed,
    ScanCounts,
    ScanOpened,
)
from ptystream.ingest.pairing import Pairing
from ptystream.ingest.series import SeriesMatcher, stream_of
from ptystream.wire.messages import (
    Exposure,
    Frame,
    Heartbeat,
    Message,
    Samples,
    ScanEnd,
    ScanStart,
)

__all__ = [
    "CLOSE_REASONS",
    "CloseReason",
    "Event",
    "ScanClosed",
    "ScanCounts",
    "ScanOpened",
    "ScanTracker",
    "Strays",
    "TrackerLimits",
]

_ALONE = 4  # idle times for which positions keep a scan open that has no frames


@dataclass(frozen=True, slots=True)
class Strays:
    """What belonged to no scan.

    A ``leftover`` came after its scan was closed, an ``orphan``'s scan never started.
    """

    leftover_frames: int = 0
    leftover_samples: int = 0
    orphan_frames: int = 0
    orphan_samples: int = 0


@dataclass(frozen=True, slots=True)
class TrackerLimits:
    """What a tracker waits for and keeps; times in seconds of the caller's clock.

    ``idle_s`` without a message (or heartbeat) of its scan closes it as timed out, as
    do four times that of positions alone: an encoder box that nobody stopped. After
    the detector's end, or the positions' end if they have all found their frames,
    ``grace_s`` without a new exposure closes it. Messages ahead of their start are
    kept up to the ``pending`` bounds, oldest dropped. ``lag`` as of ``Pairing``.
    """

    idle_s: float = 60.0
    grace_s: float = 3.0
    frame_wait_s: float = 5.0
    max_frames: int = 2048
    max_samples: int = 1 << 18
    pending_scans: int = 4
    pending_frames: int = 1024
    pending_sample_messages: int = 4096
    closed_scans: int = 256
    lag: int = 0


class _Scan:
    """All that is known of one scan."""

    def __init__(self, uid: str, limits: TrackerLimits, now_s: float) -> None:
        self.uid = uid
        self.start: ScanStart | None = None
        self.positions_start: ScanStart | None = None
        self.ends: dict[str, ScanEnd] = {}
        self.superseded = False
        self.last_s = self.detector_s = now_s
        self.progress_s = now_s
        self.frames: deque[Frame] = deque()
        self.samples: deque[Samples] = deque()
        self.shape: tuple[int, ...] | None = None
        self.limits = limits
        self.pairing = Pairing(
            max_frames=limits.max_frames,
            max_samples=limits.max_samples,
            frame_wait_s=limits.frame_wait_s,
            lag=limits.lag,
        )

    def heard(self, message: Message, now_s: float) -> None:
        """Note a sign of life."""
        if stream_of(message) == "det":
            self.detector_s = now_s
        if now_s - self.detector_s < _ALONE * self.limits.idle_s:
            self.last_s = now_s

    def note(self, message: ScanStart | ScanEnd, now_s: float) -> None:
        """Remember a start or an end, the first of each."""
        if isinstance(message, ScanEnd):
            self.ends.setdefault(message.stream, message)
            self.progress_s = now_s
        elif message.stream == "det":
            self.start = self.start or message
        else:
            self.positions_start = self.positions_start or message

    def keep(self, message: Frame | Samples) -> None:
        """Keep what came before the scan could open; drop the oldest."""
        if isinstance(message, Frame):
            self.frames.append(message)
            if len(self.frames) > self.limits.pending_frames:
                self.frames.popleft()
                self.pairing.lose_frames(1, "before_start")
            return
        self.samples.append(message)
        if len(self.samples) > self.limits.pending_sample_messages:
            lost = self.samples.popleft()
            self.pairing.lose_samples(len(lost.position_m), "before_start")

    def pair(self, message: Frame | Samples, now_s: float) -> list[Exposure]:
        """Return the exposures that a message completes."""
        if isinstance(message, Samples):
            done = self.pairing.add_samples(message)
        else:
            self.shape = self.shape or message.counts.shape
            if message.counts.shape != self.shape:
                self.pairing.refuse_frame(message, "wrong_shape")
                return []
            done = self.pairing.add_frame(message, now_s)
        if done:
            self.progress_s = now_s
        return done

    def open(self, start: ScanStart, now_s: float) -> Iterator[Event]:
        """Yield the opening, and what the kept messages complete."""
        self.shape = start.shape
        self.last_s = self.detector_s = self.progress_s = now_s
        yield ScanOpened(start, self.positions_start, start.again, len(self.frames))
        while self.samples:
            yield from self.pair(self.samples.popleft(), now_s)
        while self.frames:
            yield from self.pair(self.frames.popleft(), now_s)

    def over(self, now_s: float, *, crowded: bool) -> bool:
        """Tell whether to close; ``crowded`` when the next scan can't wait longer."""
        if not self._detector_ended and not self._positions_used_up:
            return now_s - self.last_s >= self.limits.idle_s
        nothing_to_gain = self._has_all("pos") or not self.pairing.frames_waiting
        if (self._has_all("det") or self.superseded) and nothing_to_gain:
            return True
        return crowded or now_s - self.progress_s >= self.limits.grace_s

    @property
    def reason(self) -> CloseReason:
        if "det" in self.ends:
            return self.ends["det"].reason
        if self.superseded:
            return "superseded"
        return self.ends["pos"].reason if self._positions_used_up else "timed out"

    @property
    def _detector_ended(self) -> bool:
        return "det" in self.ends or self.superseded

    @property
    def _positions_used_up(self) -> bool:
        """Tell whether no frame that comes now could find a position."""
        return self._has_all("pos") and self.pairing.used_up

    def _has_all(self, stream: str) -> bool:
        """Tell whether a stream has ended and all that it sent has come."""
        end = self.ends.get(stream)
        if end is None:
            return False
        pairing = self.pairing
        came = pairing.distinct_frames if stream == "det" else pairing.distinct_samples
        return end.sent is None or came >= end.sent

    def counts(self) -> ScanCounts:
        end = self.ends.get("det")
        expected = end.sent if end else None
        missing = max(0, (expected or 0) - self.pairing.distinct_frames)
        if expected is None and self.start is not None:
            expected = self.start.frames_expected
        return ScanCounts(expected, missing, self.pairing.counts())


class ScanTracker:
    """Routes messages by scan uid; one scan is open at a time, the next one waits.

    ``named`` is false where the two streams have no uid in common: then a position
    series is matched to the detector series that it ran beside (``SeriesMatcher``). A
    scan that waits behind an ended one is opened as soon as that one has its late
    positions, is out of grace, or the waiting frames reach their bound.
    """

    def __init__(
        self, limits: TrackerLimits | None = None, *, named: bool = True
    ) -> None:
        self._limits = limits or TrackerLimits()
        self._matcher = None if named else self._new_matcher()
        self._active: _Scan | None = None
        self._pending: OrderedDict[str, _Scan] = OrderedDict()
        self._closed: OrderedDict[str, None] = OrderedDict()
        self._leftover_frames = self._leftover_samples = 0
        self._orphan_frames = self._orphan_samples = 0

    def feed(self, message: Message, now_s: float) -> list[Event]:
        """Take one message; return what follows from it, in order."""
        if self._matcher is None:
            return self._take(message, now_s)
        matched = self._matcher.feed(message, now_s)
        return [event for m in matched for event in self._take(m, now_s)]

    def _take(self, message: Message, now_s: float) -> list[Event]:
        """Take one message that goes by the name of its scan."""
        if self._is_leftover(message):
            self._count_leftover(message)
            return []
        scan = self._scan(message, now_s)
        if scan is None:
            return []
        scan.heard(message, now_s)
        events: list[Event] = []
        if isinstance(message, ScanStart | ScanEnd):
            scan.note(message, now_s)
        elif isinstance(message, Frame | Samples):
            if scan is self._active:
                events += scan.pair(message, now_s)
            else:
                scan.keep(message)
        return events + list(self._advance(now_s))

    def tick(self, now_s: float) -> list[Event]:
        """Return what the mere passing of time brings: gives up, times out, closes."""
        events: list[Event] = []
        if self._active is not None:
            events += self._active.pairing.expire(now_s)
        events += self._advance(now_s)
        for uid, scan in list(self._pending.items()):
            if not scan.start and now_s - scan.last_s >= self._limits.idle_s:
                self._forget(uid)
        return events

    def stop(self) -> list[Event]:
        """Close what is open, as it stands; what waits for its turn is an orphan."""
        events = [] if self._active is None else list(self._close(self._active))
        for uid in list(self._pending):
            self._forget(uid)
        return events

    @property
    def scan(self) -> str | None:
        """Return the uid of the open scan."""
        return self._active.uid if self._active else None

    def counts(self) -> ScanCounts | None:
        """Return the open scan's counts."""
        return self._active.counts() if self._active else None

    def strays(self) -> Strays:
        """Return what belonged to no scan, since the beginning."""
        return Strays(
            leftover_frames=self._leftover_frames,
            leftover_samples=self._leftover_samples,
            orphan_frames=self._orphan_frames,
            orphan_samples=self._orphan_samples + self._unmatched_samples,
        )

    @property
    def _unmatched_samples(self) -> int:
        return self._matcher.dropped_samples if self._matcher else 0

    def _new_matcher(self) -> SeriesMatcher:
        limits = self._limits
        return SeriesMatcher(
            lead_s=limits.frame_wait_s, max_messages=limits.pending_sample_messages
        )

    def _is_leftover(self, message: Message) -> bool:
        """Tell what comes after its scan was closed from a uid that begins anew.

        A tape that is replayed has the same uid: a first start opens it again, and the
        positions may begin before the detector does.
        """
        if message.scan not in self._closed:
            return False
        if not isinstance(message, ScanStart):
            return message.scan not in self._pending
        if message.stream == "det" and not message.again:
            del self._closed[message.scan]
        return message.again

    def _scan(self, message: Message, now_s: float) -> _Scan | None:
        """Return the message's scan, a new one if it is the first of it."""
        if self._active is not None and message.scan == self._active.uid:
            return self._active
        if message.scan not in self._pending:
            if isinstance(message, Heartbeat):
                return None
            if len(self._pending) >= self._limits.pending_scans:
                self._forget(self._least_needed())
            new = _Scan(message.scan, self._limits, now_s)
            self._pending[message.scan] = new
        return self._pending[message.scan]

    def _least_needed(self) -> str:
        """Return the oldest scan without a start, or else the oldest."""
        oldest = next(iter(self._pending))
        return next((u for u, s in self._pending.items() if not s.start), oldest)

    def _advance(self, now_s: float) -> Iterator[Event]:
        """Close what is over and open what waits, for as long as either goes on."""
        while True:
            following = self._following()
            if self._active is not None:
                self._supersede(self._active, following, now_s)
                if not self._active.over(now_s, crowded=self._crowded(following)):
                    return
                yield from self._close(self._active)
            if following is None or following.start is None:
                return
            del self._pending[following.uid]
            self._active = following
            yield from following.open(following.start, now_s)

    def _following(self) -> _Scan | None:
        """Return the oldest scan that could open."""
        return next((s for s in self._pending.values() if s.start), None)

    def _supersede(self, active: _Scan, following: _Scan | None, now_s: float) -> None:
        """Take a new start for the end of a scan whose own end got lost."""
        if following is not None and "det" not in active.ends:
            active.progress_s = active.progress_s if active.superseded else now_s
            active.superseded = True

    def _crowded(self, following: _Scan | None) -> bool:
        if following is None:
            return False
        return len(following.frames) >= self._limits.pending_frames

    def _close(self, scan: _Scan) -> Iterator[Event]:
        reason = scan.reason  # before what waits is given up
        yield from scan.pairing.finish()
        self._active = None
        self._closed[scan.uid] = None
        if len(self._closed) > self._limits.closed_scans:
            self._closed.popitem(last=False)
        yield ScanClosed(scan.uid, reason, scan.counts())

    def _forget(self, uid: str) -> None:
        """Drop a scan that never opened."""
        scan = self._pending.pop(uid)
        counts = scan.pairing.counts()
        self._orphan_frames += len(scan.frames) + counts.frames
        kept = sum(len(samples.position_m) for samples in scan.samples)
        self._orphan_samples += kept + counts.samples

    def _count_leftover(self, message: Message) -> None:
        if isinstance(message, Frame):
            self._leftover_frames += 1
        elif isinstance(message, Samples):
            self._leftover_samples += len(message.position_m)
