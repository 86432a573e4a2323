"""Faults for a replay: the same tape, as a worse network would have delivered it."""

import heapq
import math
import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from ptystream.errors import ConfigError
from ptystream.tape.format import Record

SPARED = (b"/start", b"/end")
"""Topics that end so are never dropped, repeated or corrupted, only delayed."""
HELD_BYTES = 256 << 20
"""Delayed messages held at once; beyond, the first due goes early, counted."""


@dataclass(frozen=True, slots=True)
class Faults:
    """Shares are of the messages, 0 to 1; the same seed gives the same faults.

    ``late_s`` delays whole streams by their names on the tape; ``jitter_s`` delays
    each message by up to that much, so that they change their order.
    """

    drop: float = 0.0
    repeat: float = 0.0
    corrupt: float = 0.0
    jitter_s: float = 0.0
    late_s: Mapping[str, float] = field(default_factory=dict)
    seed: int = 0


@dataclass(slots=True)
class Injected:
    """How many messages met which fault."""

    dropped: int = 0
    repeated: int = 0
    corrupted: int = 0
    early: int = 0


class FaultyTape:
    """Iterates over a tape with faults; ``injected`` counts those of the last pass."""

    def __init__(self, tape: Iterable[Record], faults: Faults) -> None:
        for share in faults.drop, faults.repeat, faults.corrupt:
            if not 0 <= share <= 1:
                raise ConfigError(f"faults: share {share}: expected 0 to 1")
        for delay_s in (faults.jitter_s, *faults.late_s.values()):
            if not 0 <= delay_s < math.inf:
                raise ConfigError(f"faults: delay of {delay_s} s: expected 0 or more")
        self.injected = Injected()
        self._tape = tape
        self._faults = faults

    def __iter__(self) -> Iterator[Record]:
        self.injected = Injected()
        chance = random.Random(self._faults.seed)
        held: list[tuple[int, int, Record]] = []
        held_bytes = order = 0
        for record in self._tape:
            # Nothing that is still to come can be due before this record's own time.
            while held and held[0][0] <= record.mono_ns:
                held_bytes -= _size(held[0][2])
                yield heapq.heappop(held)[2]
            for copy in self._harmed(record, chance):
                late = replace(copy, mono_ns=self._due_ns(copy, chance))
                order += 1
                heapq.heappush(held, (late.mono_ns, order, late))
                held_bytes += _size(late)
            while held_bytes > HELD_BYTES:
                self.injected.early += 1
                held_bytes -= _size(held[0][2])
                yield heapq.heappop(held)[2]
        while held:
            yield heapq.heappop(held)[2]

    def _harmed(self, record: Record, chance: random.Random) -> list[Record]:
        """Return the record once, not at all, twice, or with a bit flipped."""
        if record.parts and bytes(record.parts[0]).endswith(SPARED):
            return [record]
        if chance.random() < self._faults.drop:
            self.injected.dropped += 1
            return []
        if chance.random() < self._faults.corrupt:
            self.injected.corrupted += 1
            record = replace(record, parts=_flipped(record.parts, chance), crc=None)
        if chance.random() < self._faults.repeat:
            self.injected.repeated += 1
            return [record, record]
        return [record]

    def _due_ns(self, record: Record, chance: random.Random) -> int:
        late_s = self._faults.late_s.get(record.stream, 0.0)
        jitter_s = self._faults.jitter_s * chance.random()
        return record.mono_ns + round((late_s + jitter_s) * 1e9)


def _size(record: Record) -> int:
    return sum(map(len, record.parts))


def _flipped(
    parts: tuple[bytes | memoryview, ...], chance: random.Random
) -> tuple[bytes | memoryview, ...]:
    """Return the parts with one bit flipped, in any part that isn't empty."""
    full = [i for i, part in enumerate(parts) if len(part)]
    if not full:
        return parts
    which = chance.choice(full)
    raw = bytearray(parts[which])
    raw[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
    return (*parts[:which], bytes(raw), *parts[which + 1 :])
