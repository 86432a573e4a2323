"""Keeps a scan safe from the service's end: checkpoints, and the tape beside it."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from ptystream import __version__
from ptystream.config import Config
from ptystream.errors import FileFormatError
from ptystream.ingest.indices import IndexSet
from ptystream.ingest.pairing import Pairing
from ptystream.ingest.scans import ScanClosed, ScanCounts, ScanOpened
from ptystream.publish.sink import FrameCounts
from ptystream.recon.state import Learned
from ptystream.service.checkpoint import CheckpointSink, read
from ptystream.service.missed import Mark, Missed, mark_of
from ptystream.service.scan import ScanRun
from ptystream.wire.messages import Exposure, ScanStart

log = logging.getLogger(__name__)

Soon = Callable[[Callable[[], None]], None]
FLUSH_S = 0.5
"""A recorder has what came on its tape after so long: it writes every 50 ms."""
REST_S = 10.0
"""The next scan waits so long, at most, for what the tape still has of the last."""
AT_ONCE = 64
"""Exposures taken from the tape between two steps."""
OWN = {"publish", "checkpoint", "scan", "refine"}
LOCAL = {"endpoint", "curve", "ring_mib", "allow_pull"}
"""Settings under which a state of other values is still the same scan's."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """A scan that was open when the service ended; ``learned`` if it had begun to."""

    start: ScanStart
    run: str
    began_s: float
    learned: Learned | None


class Recovery:
    """What the engine's thread asks and tells; without a sink it does nothing."""

    def __init__(
        self,
        config: Config,
        sink: CheckpointSink | None = None,
        soon: Soon = lambda _: None,
    ) -> None:
        """Store; ``soon`` runs an action in the sink's thread, the latest wins."""
        self._config, self._sink, self._soon = config, sink, soon
        self._scan = ""
        self._seen, self._count = IndexSet(), 0
        self._due_s = self._heard_s = 0.0
        self._tape = Path(config.checkpoint.tape or "").absolute()
        self._mark: Mark | None = None
        self._end: Mark | None = None
        self._reader: Missed | None = None
        self._closing: tuple[ScanClosed, float] | None = None
        self._live = self._filled = False
        self.refused = ""
        """Why the last checkpoint that was found is not gone on with."""

    def resume(self) -> Resumed | None:
        """Return the scan that was open last, and begin to read the tape.

        A file that can't be used is named, and put aside as ``*.refused``.
        """
        if self._sink is None:
            return None
        for path in self._sink.found():
            resumed = self._gone_on_with(path, self._sink)
            if resumed is not None:
                self._follow(resumed.start.scan)
                self._read_tape()
                return resumed
        return None

    def opened(self, run: ScanRun) -> None:
        """Note that a run began: from now on it can be gone on with."""
        self._follow(run.start.scan)
        self._live = True
        if self._sink is not None:
            # What comes late to the tape has come since the scan before this one.
            self._mark, self._end = self._end, mark_of(self._tape, self._end)
        self._write(run)

    def goes_on(self, event: ScanOpened) -> bool:
        """Tell whether the stream goes on with the scan that was resumed."""
        known = self._reader is not None or self._filled
        mine = known and event.joined_late and event.start.scan == self._scan
        self._live |= mine
        return mine

    def is_new(self, exposure: Exposure) -> bool:
        """Tell an exposure from one that came before: from the stream, or the tape."""
        index = exposure.frame.index
        if self._sink is None:
            return True
        self._heard_s = time.monotonic()
        if index in self._seen:
            return False
        self._seen.add(index)
        self._count += 1
        return True

    def keep(self, run: ScanRun) -> None:
        """Copy a run's state for the disk if it is time."""
        if self._sink is not None and time.monotonic() >= self._due_s:
            self._write(run)

    def holds_back(self, event: ScanClosed) -> bool:
        """Tell whether a scan's end waits until the tape has given what was missed."""
        if self._sink is None or self._filled:
            return False
        counts = event.counts
        sent = counts.frames_expected or counts.join.frames
        if self._reader is None:
            if self._count >= sent and event.reason != "timed out":
                return False
            log.warning("scan %s: frames were missed; reading the tape", self._scan)
            self._read_tape()
        self._closing = event, time.monotonic() + FLUSH_S
        return True

    def missed(self) -> list[Exposure | ScanClosed]:
        """Return what the tape has given since, at last the scan's end; never waits."""
        if self._reader is None:
            return []
        now_s, events = time.monotonic(), self._reader.take(AT_ONCE)
        ends = [e for e in events if isinstance(e, ScanClosed)]
        exposures = [e for e in events if isinstance(e, Exposure)]
        end = next((e for e in ends if e.reason != "timed out"), None)
        if end is None and self._closing and self._reader.all_until(self._closing[1]):
            end = self._closing[0]
        if end is None and not self._live and not exposures:
            end = self._silent(now_s)
        if end is None:
            return [*exposures]
        self.closed()
        self._filled = True
        return [*exposures, end]

    def rest(self) -> Iterator[Exposure | ScanClosed]:
        """Yield what the tape has up to now, before another scan takes its place."""
        now_s = time.monotonic()
        while self._reader is not None and time.monotonic() < now_s + REST_S:
            yield from self.missed()
            if self._reader is None or self._reader.all_until(now_s + FLUSH_S):
                break
            time.sleep(0.01)

    def closed(self) -> None:
        """Note that the run is over, or needs the tape no more."""
        reader, self._reader, self._closing = self._reader, None, None
        if reader is not None:
            reader.close()

    def counted(self, frames: FrameCounts, *, ended: bool) -> FrameCounts:
        """Return a run's frames where stream and tape together gave them."""
        if self._reader is None and not self._filled:
            return frames
        known = max(self._count, frames.expected or 0)
        missing = {"missing": known - self._count} if ended else {}
        return replace(frames, received=self._count, paired=self._count, lost=missing)

    def _silent(self, now_s: float) -> ScanClosed | None:
        """Return the end of a scan of which nothing more comes from anywhere."""
        until_s = self._heard_s + self._config.scan.idle_timeout_s
        if now_s < until_s or self._reader is None:
            return None
        if not self._reader.all_until(until_s):
            return None
        counts = ScanCounts(None, 0, Pairing().counts())
        return ScanClosed(self._scan, "timed out", counts)

    def _follow(self, scan: str) -> None:
        self.closed()
        self._scan, self._seen, self._count = scan, IndexSet(), 0
        self._live = self._filled = False
        self._heard_s = time.monotonic()
        self._due_s = self._heard_s + self._config.checkpoint.every_s

    def _read_tape(self) -> None:
        now = mark_of(self._tape)
        mark = self._mark if self._mark and self._mark.tape == now.tape else now
        self._reader = Missed(mark, self._scan, self._config)
        self._reader.start()

    def _write(self, run: ScanRun) -> None:
        if self._sink is None:
            return
        self._due_s = time.monotonic() + self._config.checkpoint.every_s
        state = {
            "software": __version__,
            "settings": settings_of(self._config),
            "run": run.info.run,
            "started_s": run.info.started_s,
            "start": msgspec.to_builtins(run.start),
            "tape": self._mark and list(self._mark),
            "learned": run.learned(),
        }
        self._soon(partial(self._sink.write, state))

    def _gone_on_with(self, path: Path, sink: CheckpointSink) -> Resumed | None:
        """Return the scan of a file; None, and the file put aside, if it is refused."""
        lies = path
        try:
            lies = sink.tried(path)  # first: what ends the service may be in it
            return self._resumed(read(lies))
        except FileFormatError as error:
            self.refused = f"checkpoint refused: {error}"
            log.error("%s", self.refused)
            with suppress(OSError):  # then it is refused at the next start, too
                lies.rename(path.with_name(f"{path.name}.refused"))
        return None

    def _resumed(self, state: dict[str, Any]) -> Resumed:
        """Return the scan of a state, if it is one of this software and settings."""
        try:
            software, settings = state["software"], state["settings"]
            if software != __version__:
                raise FileFormatError(f"of ptystream {software}, this is {__version__}")
            for key, value in settings_of(self._config).items():
                if settings[key] != value:
                    raise FileFormatError(f"made with other settings of {key}")
            start = msgspec.convert(state["start"], ScanStart)
            mark = state["tape"]
            self._mark = None if mark is None else Mark(str(mark[0]), int(mark[1]))
            tree, began_s = state["learned"], float(state["started_s"])
            learned = None if tree is None else Learned(tree)
            return Resumed(start, str(state["run"]), began_s, learned)
        except (KeyError, TypeError, ValueError, msgspec.ValidationError) as error:
            raise FileFormatError(f"lacks what it should hold: {error!r}") from error


def settings_of(config: Config) -> dict[str, Any]:
    """Return the settings that a state depends on; safe as JSON."""
    return config.model_dump(
        mode="json",
        exclude={**dict.fromkeys(OWN, True), "detector": LOCAL, "positions": LOCAL},
    )
