"""The faults, each alone: records in, records out, and how many were touched.

A scan's first start and its end are spared by all but those that are about them, so
that a share of lost messages doesn't lose the scan.
"""

import heapq
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from random import Random
from typing import Protocol

from ptystream.tape.format import Record
from ptystream.tape.kinds import Kind, Marked

HELD_BYTES = 256 << 20
"""Delayed messages held at once; beyond, the first due goes early, counted."""
REORDER_REACH = 8
"""A message is put off behind so many later ones of its stream, at most."""


class Fault(Protocol):
    """One fault; ``count`` is what it touched, ``early`` what it couldn't hold."""

    name: str
    count: int
    early: int

    def harm(self, tape: Iterable[Marked], chance: Random) -> Iterator[Marked]:
        """Yield the tape with the fault."""
        ...


Change = Callable[[Record, Random], list[Record]]


class Sometimes:
    """A change to a share of the messages."""

    def __init__(self, name: str, share: float, change: Change) -> None:
        self.name, self.count, self.early = name, 0, 0
        self._share, self._change = share, change

    def harm(self, tape: Iterable[Marked], chance: Random) -> Iterator[Marked]:
        """Yield every message, a share of them changed."""
        for mark in tape:
            if spared(mark) or chance.random() >= self._share:
                yield mark
                continue
            self.count += 1
            for record in self._change(mark.record, chance):
                yield mark.as_record(record)


class Reorder:
    """A share of the messages comes after up to eight later ones of its stream."""

    name = "reordered"

    def __init__(self, share: float) -> None:
        self.count = self.early = 0
        self._share = share

    def harm(self, tape: Iterable[Marked], chance: Random) -> Iterator[Marked]:
        """Yield every message, some later."""
        held: list[tuple[Marked, int]] = []
        for mark in tape:
            if not spared(mark) and chance.random() < self._share:
                self.count += 1
                held.append((mark, chance.randint(1, REORDER_REACH)))
                continue
            if mark.kind == "end":  # what was sent before the end comes before it
                yield from (_at(late, mark) for late, _ in held)
                held.clear()
            yield mark
            stream = mark.record.stream
            held = [(m, n - (m.record.stream == stream)) for m, n in held]
            yield from (_at(late, mark) for late, left in held if left <= 0)
            held = [(late, left) for late, left in held if left > 0]
        yield from (late for late, _ in held)


class Delay:
    """Each message comes up to ``jitter_s`` later, a stream by ``late_s`` as a whole.

    At most 256 MiB are held; beyond, the first due goes early.
    """

    name = "delayed"

    def __init__(self, jitter_s: float, late_s: Mapping[str, float]) -> None:
        self.count = self.early = 0
        self._jitter_s, self._late_s = jitter_s, late_s

    def harm(self, tape: Iterable[Marked], chance: Random) -> Iterator[Marked]:
        """Yield every message in the order in which they are due."""
        held: list[tuple[int, int, Marked]] = []
        held_bytes = order = 0
        for mark in tape:
            # Nothing that is still to come can be due before this record's own time.
            while held and held[0][0] <= mark.record.mono_ns:
                held_bytes -= _size(held[0][2])
                yield heapq.heappop(held)[2]
            late = self._late(mark, chance)
            order += 1
            self.count += late is not mark
            heapq.heappush(held, (late.record.mono_ns, order, late))
            held_bytes += _size(late)
            while held_bytes > HELD_BYTES:
                self.early += 1
                held_bytes -= _size(held[0][2])
                yield heapq.heappop(held)[2]
        while held:
            yield heapq.heappop(held)[2]

    def _late(self, mark: Marked, chance: Random) -> Marked:
        record = mark.record
        late_s = self._late_s.get(record.stream, 0.0) + self._jitter_s * chance.random()
        late_ns = round(late_s * 1e9)
        if not late_ns:
            return mark
        return mark.as_record(replace(record, mono_ns=record.mono_ns + late_ns))


class PositionLag:
    """Positions come ``frames`` frames after they did; a start isn't put off.

    At most 256 MiB are held; beyond, the oldest goes early.
    """

    name = "lagged"

    def __init__(self, frames: int) -> None:
        self.count = self.early = 0
        self._frames = frames

    def harm(self, tape: Iterable[Marked], chance: Random) -> Iterator[Marked]:
        """Yield the tape, its positions behind its frames."""
        held: deque[tuple[Marked, int]] = deque()
        held_bytes = seen = 0
        for mark in tape:
            seen += mark.kind == "frame"
            if mark.record.stream == "pos" and mark.kind != "start":
                self.count += 1
                held.append((mark, seen + self._frames))
                held_bytes += _size(mark)
            else:
                yield mark
            while held and (held[0][1] <= seen or held_bytes > HELD_BYTES):
                self.early += held[0][1] > seen
                late, _ = held.popleft()
                held_bytes -= _size(late)
                yield _at(late, mark)
        yield from (late for late, _ in held)


class Missing:
    """A scan's start, or its end, never came on these streams."""

    early = 0

    def __init__(self, kind: Kind, streams: Collection[str]) -> None:
        self.name, self.count = f"missing_{kind}s", 0
        self._kind, self._streams = kind, streams

    def harm(self, tape: Iterable[Marked], chance: Random) -> Iterator[Marked]:
        """Yield everything else."""
        for mark in tape:
            if mark.kind == self._kind and mark.record.stream in self._streams:
                self.count += 1
            else:
                yield mark


class Abort:
    """After so many frames of a scan no more of it come, only its end."""

    name, early = "aborted", 0

    def __init__(self, after: int) -> None:
        self.count = 0
        self._after = after

    def harm(self, tape: Iterable[Marked], chance: Random) -> Iterator[Marked]:
        """Yield all but the frames after the first so many of each scan."""
        scan, frames = "", 0
        for mark in tape:
            if mark.kind != "frame":
                yield mark
                continue
            frames = frames + 1 if mark.scan == scan else 1
            scan = mark.scan
            if frames <= self._after:
                yield mark
            else:
                self.count += 1


class Flatten:
    """Every part is a message of its own, as some proxies forward them."""

    name, early = "flattened", 0

    def __init__(self) -> None:
        self.count = 0

    def harm(self, tape: Iterable[Marked], chance: Random) -> Iterator[Marked]:
        """Yield part by part; each is marked as its message was."""
        for mark in tape:
            self.count += len(mark.record.parts) > 1
            for part in mark.record.parts:
                single = replace(mark.record, parts=(part,), crc=None)
                yield mark.as_record(single)


def spared(mark: Marked) -> bool:
    """Tell what a share of lost or damaged messages never touches."""
    return mark.solid or mark.kind in ("start", "end")


def dropped(record: Record, chance: Random) -> list[Record]:
    """Return nothing."""
    return []


def twice(record: Record, chance: Random) -> list[Record]:
    """Return it two times."""
    return [record, record]


def flipped(record: Record, chance: Random) -> list[Record]:
    """Return it with one bit flipped, in any part that isn't empty."""
    full = [i for i, part in enumerate(record.parts) if len(part)]
    if not full:
        return [record]
    which = chance.choice(full)
    raw = bytearray(record.parts[which])
    raw[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
    return [_with_part(record, which, bytes(raw))]


def truncated(record: Record, chance: Random) -> list[Record]:
    """Return it with one part cut short, any that isn't empty."""
    full = [i for i, part in enumerate(record.parts) if len(part)]
    if not full:
        return [record]
    which = chance.choice(full)
    part = record.parts[which]
    return [_with_part(record, which, part[: chance.randrange(len(part))])]


def _with_part(record: Record, which: int, part: bytes | memoryview) -> Record:
    parts = (*record.parts[:which], part, *record.parts[which + 1 :])
    return replace(record, parts=parts, crc=None)


def _at(late: Marked, now: Marked) -> Marked:
    """Return a message that was held until now."""
    return late.as_record(replace(late.record, mono_ns=now.record.mono_ns))


def _size(mark: Marked) -> int:
    return sum(map(len, mark.record.parts))
