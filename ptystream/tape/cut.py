"""A part of a tape as a tape: one scan, some frames, some seconds."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from ptystream.errors import TapeError
from ptystream.tape.format import Record
from ptystream.tape.kinds import Marked

_Span = tuple[int, int]  # first and last, in ns
MAX_GROUP = 64
"""Parts of a flattened message that belong together, at most."""


@dataclass(frozen=True, slots=True)
class Cut:
    """What to keep; all that is asked for must hold.

    ``frames`` and ``seconds`` are ``[from, to)``; seconds count from the tape's first
    record. Positions, starts and ends are kept whatever the frames; starts also from
    before the seconds, for nothing can be read without them.
    """

    scan: str | None = None
    frames: tuple[int, int] | None = None
    seconds: tuple[float, float] | None = None


class Cutter:
    """Picks records, in two passes over the tape: ``look``, then ``pick``.

    Where the streams call a scan by different names, the positions that belong to it
    are the series that ran beside its frames the longest.
    """

    def __init__(self, cut: Cut) -> None:
        self._cut = cut
        self._wanted_names: set[tuple[str, str]] = set()
        self._begin_ns: int | None = None

    def look(self, tape: Iterable[Marked]) -> None:
        """Find what belongs to the wanted scan; TapeError if it isn't there."""
        if self._cut.scan is None:
            return
        spans: dict[tuple[str, str], _Span] = {}
        for mark in tape:
            if mark.scan:
                at_ns, key = mark.record.mono_ns, (mark.record.stream, mark.scan)
                first_ns, _ = spans.get(key, (at_ns, at_ns))
                spans[key] = first_ns, at_ns
        named = {scan for stream, scan in spans if stream == "det"}
        if self._cut.scan not in named:
            known = ", ".join(sorted(named)[:20]) or "none"
            raise TapeError(
                f"no scan {self._cut.scan!r} of the detector on the tape; "
                f"it holds {known}"
            )
        frames = {scan: span for (s, scan), span in spans.items() if s == "det"}
        for (stream, scan), span in spans.items():
            owner = scan if scan in frames else _beside(span, frames)
            if owner == self._cut.scan:
                self._wanted_names.add((stream, scan))

    def pick(self, tape: Iterable[Marked]) -> Iterator[Record]:
        """Yield the records to keep."""
        for group in _groups(tape):
            if self._wanted(group[-1]):
                yield from (mark.record for mark in group)

    def _wanted(self, mark: Marked) -> bool:
        in_time = self._in_seconds(mark)  # first: it sees where the tape begins
        return in_time and self._in_scan(mark) and self._in_frames(mark)

    def _in_scan(self, mark: Marked) -> bool:
        if self._cut.scan is None:
            return True
        return (mark.record.stream, mark.scan) in self._wanted_names

    def _in_frames(self, mark: Marked) -> bool:
        if self._cut.frames is None or mark.kind != "frame":
            return True
        first, end = self._cut.frames
        return first <= mark.index < end

    def _in_seconds(self, mark: Marked) -> bool:
        if self._begin_ns is None:
            self._begin_ns = mark.record.mono_ns
        if self._cut.seconds is None:
            return True
        at_s = (mark.record.mono_ns - self._begin_ns) / 1e9
        first_s, end_s = self._cut.seconds
        return first_s <= at_s < end_s or (mark.kind == "start" and at_s < first_s)


def _beside(span: _Span, frames: Mapping[str, _Span]) -> str:
    """Return the scan that ran beside a series the longest, or else the nearest."""
    return max(
        frames,
        key=lambda scan: min(span[1], frames[scan][1]) - max(span[0], frames[scan][0]),
    )


def _groups(tape: Iterable[Marked]) -> Iterator[list[Marked]]:
    """Yield records with the loose parts before them that make up one message."""
    loose: dict[str, list[Marked]] = {}
    for mark in tape:
        group = loose.setdefault(mark.record.stream, [])
        group.append(mark)
        part = mark.kind == "other" and not mark.scan and len(mark.record.parts) == 1
        if not part or len(group) >= MAX_GROUP:
            yield loose.pop(mark.record.stream)
    yield from loose.values()
