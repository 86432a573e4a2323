"""Faults for a replay: the same tape, as a worse network would have delivered it."""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from random import Random

from ptystream.errors import ConfigError
from ptystream.tape import fault_kinds as kinds
from ptystream.tape.fault_kinds import Fault
from ptystream.tape.format import Record
from ptystream.tape.kinds import Marked, marked
from ptystream.tape.source import Decoders

CHANGES: Mapping[str, tuple[str, kinds.Change]] = {
    "drop": ("dropped", kinds.dropped),
    "truncate": ("truncated", kinds.truncated),
    "corrupt": ("corrupted", kinds.flipped),
    "duplicate": ("duplicated", kinds.twice),
}
"""Faults of a share of the messages: what is counted, and what is done."""


@dataclass(frozen=True, slots=True)
class Faults:
    """Shares are of the messages, 0 to 1; the same seed gives the same faults.

    ``late_s`` delays whole streams by their names on the tape; ``jitter_s`` delays
    each message by up to that much, so that they change their order. Positions come
    ``position_lag`` frames late. ``no_start`` and ``no_end`` name the streams whose
    scans lack it. ``abort_after`` and ``restart_after`` are numbers of frames: no more
    come, or the sender begins the tape again.
    """

    drop: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    truncate: float = 0.0
    corrupt: float = 0.0
    jitter_s: float = 0.0
    late_s: Mapping[str, float] = field(default_factory=dict)
    position_lag: int = 0
    no_start: Collection[str] = ()
    no_end: Collection[str] = ()
    abort_after: int | None = None
    restart_after: int | None = None
    flatten: bool = False
    seed: int = 0

    def check(self) -> None:
        """Raise ConfigError that names a value that is out of range."""
        for name in (*CHANGES, "reorder"):
            share = getattr(self, name)
            if not 0 <= share <= 1:
                raise ConfigError(f"faults: {name}: share {share}: expected 0 to 1")
        for delay_s in (self.jitter_s, *self.late_s.values()):
            if not 0 <= delay_s < math.inf:
                raise ConfigError(f"faults: delay of {delay_s} s: expected 0 or more")
        for frames in (self.position_lag, self.abort_after, self.restart_after):
            if frames is not None and frames < 0:
                raise ConfigError(f"faults: {frames} frames: expected 0 or more")

    def build(self) -> list[Fault]:
        """Return the faults that are asked for, in the order in which they act."""
        found: list[Fault] = []
        if self.abort_after is not None:
            found.append(kinds.Abort(self.abort_after))
        if self.no_start:
            found.append(kinds.Missing("start", self.no_start))
        if self.no_end:
            found.append(kinds.Missing("end", self.no_end))
        if self.position_lag:
            found.append(kinds.PositionLag(self.position_lag))
        if self.flatten:  # before the losses: they then lose single parts
            found.append(kinds.Flatten())
        if self.reorder:
            found.append(kinds.Reorder(self.reorder))
        for name, (counted, change) in CHANGES.items():
            if share := getattr(self, name):
                found.append(kinds.Sometimes(counted, share, change))
        if self.jitter_s or self.late_s:
            found.append(kinds.Delay(self.jitter_s, self.late_s))
        return found


class FaultyTape:
    """Iterates over a tape with faults; ``injected`` counts those of the last pass.

    ``decoders`` tell starts, frames and ends apart. Streams in ``solid`` came over a
    plain connection, which loses and changes nothing: they are only held up, or end.
    """

    def __init__(
        self,
        tape: Iterable[Record],
        faults: Faults,
        decoders: Decoders | None = None,
        solid: Collection[str] = (),
    ) -> None:
        faults.check()
        self._tape, self._faults = tape, faults
        self._decoders, self._solid = decoders, solid
        self._acting: list[Fault] = []
        self._restarts = 0

    @property
    def injected(self) -> dict[str, int]:
        """Messages that met each fault; ``early`` ones couldn't be held any longer."""
        counts = {fault.name: fault.count for fault in self._acting}
        if self._faults.restart_after is not None:
            counts["restarts"] = self._restarts
        return {**counts, "early": sum(fault.early for fault in self._acting)}

    def __iter__(self) -> Iterator[Record]:
        self._acting, self._restarts = self._faults.build(), 0
        if not self._acting and self._faults.restart_after is None:
            yield from self._tape
            return
        marks = self._restarted()
        for fault in self._acting:
            marks = fault.harm(marks, Random(f"{self._faults.seed} {fault.name}"))
        for mark in marks:
            yield mark.record

    def _restarted(self) -> Iterator[Marked]:
        """Yield the tape; with a restart its beginning first, then all of it, later."""
        after, shift_ns, frames = self._faults.restart_after, 0, 0
        if after is not None:
            first: Marked | None = None
            for mark in self._marked():
                first = first or mark
                frames += mark.kind == "frame"
                if frames > after:
                    self._restarts = 1
                    shift_ns = mark.record.mono_ns - first.record.mono_ns
                    break
                yield mark
            if not self._restarts:
                return
        for mark in self._marked():
            late = replace(mark.record, mono_ns=mark.record.mono_ns + shift_ns)
            yield mark.as_record(late)

    def _marked(self) -> Iterator[Marked]:
        for mark in marked(self._tape, self._decoders):
            yield replace(mark, solid=mark.record.stream in self._solid)
