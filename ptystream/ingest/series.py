"""Streams that don't name their scan: which positions belong to which frames.

Detectors number their series and encoder boxes their arms, neither knowing the other.
The rule: two series belong together if they ran at the same time, one to one, the
oldest first. Only data counts: an arm without a sample and a series without a frame
belong to nothing, so what is armed twice, or too early, takes nobody's partner away.

A pure state machine: the caller passes the clock.
"""

from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

from ptystream.wire.messages import (
    Frame,
    Heartbeat,
    Message,
    Samples,
    ScanEnd,
    ScanStart,
)

Stream = Literal["det", "pos"]

_UNBOUND = 4  # series without a partner, of each stream
_NAMES = 256  # names of the wire that are remembered, of each stream
_AFTER_END_S = 1.0  # one that has ended may still be another's partner: streams lag
_QUIET_S = 0.5  # number 0 again after so much silence begins anew, else it is a repeat


def stream_of(message: Message) -> Stream:
    """Return the stream that a message is of."""
    if isinstance(message, Frame):
        return "det"
    return "pos" if isinstance(message, Samples) else message.stream


class _Series:
    """One series of one stream: what its sender calls it, and what we do."""

    def __init__(self, wire_name: str, name: str) -> None:
        self.wire_name, self.name = wire_name, name
        self.start: ScanStart | None = None
        self.scan: str | None = None  # positions: whose they are
        self.bound = self.ended = False
        self.newest = -1
        self.last_s = 0.0
        self.whole = False
        self.held: deque[Message] = deque()

    @property
    def has_data(self) -> bool:
        return self.newest >= 0

    def saw(self, message: Message, now_s: float) -> None:
        """Note what a message tells of its series."""
        if isinstance(message, ScanStart):
            self.start = self.start or message
            self.whole |= not message.again
        elif isinstance(message, ScanEnd):
            self.ended = True
        elif not isinstance(message, Heartbeat):
            number = _number(message)
            self.whole |= number == 0
            self.newest = max(self.newest, number)
            self.last_s = now_s

    def begins_anew(self, message: Message, now_s: float) -> bool:
        """Tell a new series from a message that merely came again."""
        if isinstance(message, ScanStart):
            return not message.again and (self.has_data or self.ended)
        if isinstance(message, ScanEnd | Heartbeat) or _number(message):
            return False
        quiet = now_s - self.last_s >= _QUIET_S
        return self.ended or (self.newest > 0 and quiet)


class SeriesMatcher:
    """Gives positions the name of the scan whose frames they belong to.

    Series without a partner ran together if, when data of one came, the last data of
    the other was at most ``lead_s`` old, or a second once that one has ended. One that
    was joined after its beginning belongs to one seen from its beginning only if it
    goes on beside it: it may be what the last scan left behind. Equal names belong
    together at once.

    Positions wait for their frames. The oldest of more than ``max_messages`` of a
    series are dropped, counted in ``dropped_samples``, and all of a series that four
    later ones have overtaken.
    """

    def __init__(self, *, lead_s: float, max_messages: int) -> None:
        self._lead_s = lead_s
        self._max_messages = max_messages
        self._known: dict[Stream, OrderedDict[str, _Series]] = {
            "det": OrderedDict(),
            "pos": OrderedDict(),
        }
        self._unbound: dict[Stream, deque[_Series]] = {"det": deque(), "pos": deque()}
        self._times_named: OrderedDict[str, int] = OrderedDict()
        self.dropped_samples = 0

    def feed(self, message: Message, now_s: float) -> list[Message]:
        """Return what can go on, by the name of its scan, in order."""
        stream = stream_of(message)
        series = self._known[stream].get(message.scan)
        going_on = self._begin(series, message, now_s)
        series = self._known[stream].get(message.scan)
        if series is None:  # a heartbeat or an end of what we never saw
            return []
        series.saw(message, now_s)
        partner = None if series.bound else self._partner(series, stream, now_s)
        if stream == "det":
            going_on.append(_named(message, series.name))
        elif series.scan is not None:
            going_on.append(_named(message, series.scan))
        else:
            self._hold(series, message)
        if partner is not None:
            det, pos = (series, partner) if stream == "det" else (partner, series)
            going_on += self._bind(det, pos)
        return going_on

    def _begin(
        self, series: _Series | None, message: Message, now_s: float
    ) -> list[Message]:
        """Make a message's series if it is the first of it; return a start made up."""
        if series is None and isinstance(message, ScanEnd | Heartbeat):
            return []
        if series is not None and not series.begins_anew(message, now_s):
            return []
        stream = stream_of(message)
        new = _Series(message.scan, self._name(message.scan, stream))
        known = self._known[stream]
        known.pop(message.scan, None)
        known[message.scan] = new
        if len(known) > _NAMES:
            known.popitem(last=False)
        self._wait(new, stream)
        if series is None or series.start is None or not isinstance(message, Frame):
            return []
        new.start = replace(series.start, scan=new.name, again=True)
        return [new.start]

    def _name(self, wire_name: str, stream: Stream) -> str:
        """Return a name of its own for a detector's series."""
        if stream == "pos":
            return wire_name
        times = self._times_named.pop(wire_name, 0) + 1
        self._times_named[wire_name] = times
        if len(self._times_named) > _NAMES:
            self._times_named.popitem(last=False)
        return wire_name if times == 1 else f"{wire_name}.{times}"

    def _wait(self, series: _Series, stream: Stream) -> None:
        """Let a series wait for its partner; give up the oldest of too many."""
        waiting = self._unbound[stream]
        waiting.append(series)
        if len(waiting) > _UNBOUND:
            lost = waiting.popleft()
            lost.bound = True
            while lost.held:
                self._drop(lost.held.popleft())

    def _hold(self, series: _Series, message: Message) -> None:
        """Keep positions whose frames aren't known yet; drop the oldest."""
        if series.bound:
            self._drop(message)
            return
        series.held.append(message)
        if len(series.held) > self._max_messages:
            self._drop(series.held.popleft())

    def _drop(self, message: Message) -> None:
        if isinstance(message, Samples):
            self.dropped_samples += len(message.position_m)

    def _partner(self, series: _Series, stream: Stream, now_s: float) -> _Series | None:
        """Return the oldest series of the other stream that ran beside this one."""
        if not series.has_data:
            return None
        others = self._unbound["pos" if stream == "det" else "det"]
        for other in others:
            if other.has_data and self._together(series, other, now_s):
                return other
        return None

    def _together(self, series: _Series, other: _Series, now_s: float) -> bool:
        """Tell whether two series are of one scan, at data of the first."""
        if series.wire_name == other.wire_name:
            return True
        if series.whole and not other.whole:
            return False
        lead_s = min(self._lead_s, _AFTER_END_S) if other.ended else self._lead_s
        return now_s - other.last_s <= lead_s

    def _bind(self, det: _Series, pos: _Series) -> Iterator[Message]:
        """Yield the positions that waited, under their scan's name."""
        det.bound = pos.bound = True
        self._unbound["det"].remove(det)
        self._unbound["pos"].remove(pos)
        pos.scan = det.name
        while pos.held:
            yield _named(pos.held.popleft(), det.name)


def _number(message: Frame | Samples) -> int:
    return message.index if isinstance(message, Frame) else message.first


def _named(message: Message, name: str) -> Message:
    return message if message.scan == name else replace(message, scan=name)
