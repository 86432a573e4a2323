"""Runs that a Bluesky session announced, and which scan is whose.

A scan belongs to the run that has its uid, or names it; else to the newest run that
has no scan yet: one that was armed, else one that is open, else one that closed a
moment ago. The newest, since a run that never streamed must not claim a later scan.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ptystream.publish.runs import RunNote
from ptystream.wire.messages import ScanStart

KEPT = 32
"""Runs, and ends of runs, that are remembered; the oldest are forgotten, counted."""
GRACE_S = 10.0
"""A run that has closed may claim a scan for so long."""
COPIED = (
    "data_session",
    "cycle",
    "proposal",
    "sample",
    "beamline_id",
    "tiled_access_tags",
    "scan_id",
)
"""Of the start document, what a scan's own metadata is told over again."""


@dataclass(frozen=True, slots=True)
class _Run:
    note: RunNote
    armed: bool = False
    taken: bool = False
    over_s: float | None = None


class Announced:
    """The book of runs; every method may be called from any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._runs: OrderedDict[str, _Run] = OrderedDict()
        self._ends: OrderedDict[str, Mapping[str, Any]] = OrderedDict()
        self._news = threading.Condition()
        self.forgotten = 0
        """Runs without a scan that had to make room."""

    def note(self, note: RunNote, *, arm: bool = False) -> None:
        """Add what is known of a run; ``arm`` if the next scan is to be its own.

        Another run that was armed and has no scan is as good as closed.
        """
        with self._news:
            known = self._runs.pop(note.uid, None)
            run = _Run(note) if known is None else self._more(known, note)
            if arm:
                for uid, other in self._runs.items():
                    if other.armed and not other.taken:
                        over_s = self._clock()
                        self._runs[uid] = replace(other, armed=False, over_s=over_s)
                run = replace(run, armed=True)
            self._runs[note.uid] = run
            while len(self._runs) > KEPT:
                _, oldest = self._runs.popitem(last=False)
                self.forgotten += not oldest.taken
            self._news.notify_all()

    def close(self, uid: str) -> None:
        """Note that a run is closed: soon it claims no scan any more."""
        with self._news:
            if uid in self._runs:
                self._runs[uid] = replace(self._runs[uid], over_s=self._clock())

    def withdraw(self, uid: str) -> bool:
        """Forget an armed run; False if it was not armed, or has its scan."""
        with self._news:
            run = self._runs.get(uid)
            if run is None or run.taken or not run.armed:
                return False
            del self._runs[uid]
            return True

    def claim(self, start: ScanStart, wait_s: float = 0.0) -> ScanStart:
        """Return a scan's start with the metadata of its run in it.

        Waits so long for a run's documents if nobody claims the scan, but only where
        runs were announced before. Without a run the start is as it came.
        """
        with self._news:
            if self._runs and wait_s:
                self._news.wait_for(lambda: self._whose(start) is not None, wait_s)
            uid = self._whose(start)
            if uid is None:
                return start
            self._runs[uid] = replace(self._runs[uid], taken=True)
            note = self._runs[uid].note
        frames = start.frames_expected or note.frames
        return replace(start, meta=_with(start.meta, note), frames_expected=frames)

    @property
    def armed(self) -> str | None:
        """The uid of the run that waits for its scan."""
        with self._news:
            waiting = [u for u, r in self._runs.items() if r.armed and not r.taken]
            return waiting[-1] if waiting else None

    def ended(self, uid: str, end: Mapping[str, Any]) -> None:
        """Remember how a run's reconstruction ended; ``end`` is JSON-safe."""
        with self._news:
            self._ends.pop(uid, None)
            self._ends[uid] = end
            if len(self._ends) > KEPT:
                self._ends.popitem(last=False)

    def end_of(self, uid: str) -> Mapping[str, Any] | None:
        """Return how a run's reconstruction ended; None if it has not, or long ago."""
        with self._news:
            return self._ends.get(uid)

    def ends(self) -> list[Mapping[str, Any]]:
        """Return all ends that are remembered, the oldest first."""
        with self._news:
            return list(self._ends.values())

    @property
    def last(self) -> Mapping[str, Any] | None:
        """The newest end."""
        with self._news:
            return next(reversed(self._ends.values()), None)

    def _more(self, known: _Run, note: RunNote) -> _Run:
        return replace(known, note=known.note.with_more(note))

    def _whose(self, start: ScanStart) -> str | None:
        names = {start.scan, start.meta.get("bluesky_uid"), start.meta.get("uid")}
        for uid, run in self._runs.items():
            if uid in names or run.note.scan == start.scan:
                return uid
        free = [(u, r) for u, r in reversed(self._runs.items()) if not r.taken]
        free = [(u, r) for u, r in free if r.note.scan is None]
        oldest_s = self._clock() - GRACE_S
        for fits in (
            lambda r: r.armed,
            lambda r: r.over_s is None,
            lambda r: r.over_s is not None and r.over_s >= oldest_s,
        ):
            for uid, run in free:
                if fits(run):
                    return uid
        return None


def _with(meta: Mapping[str, Any], note: RunNote) -> dict[str, Any]:
    """Return a scan's metadata with what its run says."""
    document = note.start_document
    told = {k: {"value": t.value, "origin": t.origin} for k, t in note.geometry.items()}
    return {
        **meta,
        **{key: document[key] for key in COPIED if key in document},
        "bluesky_uid": note.uid,
        "start_document": document,
        "baseline": note.baseline,
        "configuration": note.configuration,
        "told_geometry": told,
    }
