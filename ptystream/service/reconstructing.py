"""The engine's side of a live service: events to snapshots, in a thread of its own."""

import logging
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import TypeVar

from ptystream.config import Config
from ptystream.errors import PtystreamError
from ptystream.ingest.scans import ScanClosed, ScanCounts, ScanOpened
from ptystream.publish.findings import findings
from ptystream.publish.runner import SinkThread
from ptystream.publish.sink import FrameCounts, RunEnd, RunInfo
from ptystream.recon.snapshot import Snapshot
from ptystream.service.announced import Announced
from ptystream.service.backlog import Backlog
from ptystream.service.budget import Budget
from ptystream.service.engine_state import Cut, EngineState, Finished, raw_uid_of
from ptystream.service.geometry import documents_of, read_documents
from ptystream.service.offline import training_threads
from ptystream.service.pixel_lag import PixelLags
from ptystream.service.resume import Recovery
from ptystream.service.scan import NO_EXTRAS, Extras, ScanRun
from ptystream.service.stretch import Stretch
from ptystream.service.warm import Warm
from ptystream.wire.messages import Exposure

log = logging.getLogger(__name__)
T = TypeVar("T")

AT_ONCE = 1024
"""Exposures moved into the store between two steps: 0.3 ms each at 256², where a step
takes 190 ms. At most 256 of them were fewer than come meanwhile at 1 kHz."""
IDLE_S = 0.05
SHOWN = 0.1
"""Snapshots take at most this share of the engine's time: one of a canvas so large that
they would take more comes later than ``publish.every_s``."""
KEPT = 4096
"""Timings and ended scans kept until somebody takes them; the oldest go."""


def _drained(items: deque[T]) -> list[T]:
    """Take everything out; safe beside a thread that appends."""
    return [items.popleft() for _ in range(len(items))]


class Reconstructing:
    """Takes events from a backlog, steps in between, and tells the sinks."""

    def __init__(
        self,
        config: Config,
        backlog: Backlog,
        sinks: Sequence[SinkThread],
        frames: Callable[[str, ScanCounts | None], FrameCounts | None],
        *,
        extras: Extras = NO_EXTRAS,
        changed: Callable[[], None] = lambda: None,
        announced: Announced | None = None,
        pixel_lags: PixelLags | None = None,
        recovery: Recovery | None = None,
    ) -> None:
        """Store; ``frames`` says what came of a scan, None while it can't tell."""
        self._recovery = recovery or Recovery(config)
        self._pixel_lags = pixel_lags or PixelLags()
        self._announced = announced or Announced()
        self._config, self._backlog, self._sinks = config, backlog, sinks
        self._frames, self._extras, self._changed = frames, extras, changed
        self.warm = Warm(config.warm)
        self._budget = Budget(config.engine.budget)
        self._run: ScanRun | None = None
        self._stretch = Stretch(config)
        self._ending: ScanCounts | None = None
        self._stopping = threading.Event()
        self._cut: Cut | None = None
        self._held = False
        self._publish_due_s = 0.0
        self._step_s = 0.0
        self._ignored = self._finished = 0
        self._detail = ""
        self._lag_s = float("nan")
        self._ended: deque[Finished] = deque(maxlen=KEPT)
        self._steps: deque[float] = deque(maxlen=KEPT)
        self._lags: deque[float] = deque(maxlen=KEPT)
        self._snapshot: Snapshot | None = None
        # A daemon: a step that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._loop, name="engine", daemon=True)
        self.error: Exception | None = None
        self.state = EngineState()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def finish(self, timeout_s: float) -> None:
        """Stop refining, keep what is open, end; left behind if it hangs so long."""
        self._stopping.set()
        self._thread.join(timeout_s)

    def alive(self) -> bool:
        """Tell whether the thread runs."""
        return self._thread.is_alive()

    def cut(self, why: str) -> None:
        """End the present run at the next turn; between runs there is none to end."""
        self._cut = Cut(self.state.run, why)

    def enough(self, why: str, *, refine: bool) -> None:
        """End the present run as complete at the next turn; refine it first, or not."""
        self._cut = Cut(self.state.run, why, enough=True, refine=refine)

    @property
    def held(self) -> bool:
        """Whether it was told not to step."""
        return self._held

    def hold(self, *, held: bool) -> None:
        """Stop stepping, or go on; exposures are taken in all the same."""
        self._held = held
        self._changed()

    def take_finished(self) -> list[Finished]:
        """Return the scans that ended since the last call, at most ``KEPT``."""
        return _drained(self._ended)

    def take_timings(self) -> tuple[list[float], list[float]]:
        """Return seconds of each step, and from arrival to store, since last."""
        return _drained(self._steps), _drained(self._lags)

    def _loop(self) -> None:
        """Turn until stopped and nothing is left."""
        try:
            with training_threads(self._config.engine.threads):
                self._go_on()
                while not (self._stopping.is_set() and self._run is None):
                    self._turn()
        except Exception as error:  # the top of the thread; the service sees ``error``
            self.error = error
            log.exception("engine failed")

    def _turn(self) -> None:
        """Take what came, learn one step, publish when it is time."""
        came = self._backlog.take(AT_ONCE, self._patience_s())
        for event in (*came, *self._recovery.missed()):
            self._take(event)
        run = self._run
        if run is None:
            return
        if self._stopping.is_set():
            run.cut("the service was stopped")
        elif self._cut is not None and self._cut.run == run.info.run:
            self._obey(run, self._cut)
        if run.done or not self._rest_s(run):
            self._step(run)
        if run.done:
            self._close(run)
        elif time.monotonic() >= self._publish_due_s:
            self._publish(run)
        if self._run is not None:
            self._recovery.keep(run)

    def _step(self, run: ScanRun) -> None:
        """Learn one step, and note what it took."""
        began_s = time.perf_counter()
        if run.step():
            self._step_s = time.perf_counter() - began_s
            self._steps.append(self._step_s)
            self._budget.spent(time.monotonic(), self._step_s)
        elif not run.done:
            time.sleep(0.002)

    def _patience_s(self) -> float:
        """Return how long to wait for events before there is something else to do."""
        return IDLE_S if self._run is None else min(IDLE_S, self._rest_s(self._run))

    def _rest_s(self, run: ScanRun) -> float:
        """Return how long not to step: on hold, or as the budget says."""
        if self._held:
            return IDLE_S
        return self._budget.rest_s(time.monotonic()) if run.phase == "live" else 0.0

    def _obey(self, run: ScanRun, cut: Cut) -> None:
        """End a run as it was asked."""
        self._cut = None
        if cut.enough:
            run.enough(cut.why, refine=cut.refine)
            self._note()
        else:
            run.cut(cut.why)

    def _take(self, event: ScanOpened | Exposure | ScanClosed) -> None:
        """Handle one event; a scan that can't be used is named and left out."""
        if isinstance(event, ScanOpened):
            wait_s = self._config.scan.documents_s
            event = replace(event, start=self._announced.claim(event.start, wait_s))
        try:
            if isinstance(event, Exposure):
                self._expose(event)
            elif isinstance(event, ScanOpened):
                self._open(event)
            elif self._run is not None and self._run.start.scan == event.scan:
                if not self._recovery.holds_back(event):
                    self._ending = event.counts
                    self._run.end(event.reason)
                    self._note()
        except PtystreamError as error:
            log.error("scan given up: %s", error)
            self._give_up(event, str(error))

    def _expose(self, exposure: Exposure) -> None:
        """Give an exposure to its scan."""
        if self._run is None or self._run.start.scan != exposure.frame.scan:
            self._ignored += 1
            return
        if not self._recovery.is_new(exposure):
            return
        self._run.add(self._stretch(exposure))
        self._lag_s = time.monotonic() - exposure.frame.arrived_s
        self._lags.append(self._lag_s)
        self._pixel_lags.took(exposure.frame.arrived_s)

    def _open(self, event: ScanOpened) -> None:
        """Begin a scan; one that still refines is finished first."""
        if self._run is not None:
            if self._recovery.goes_on(event):
                return
            for missed in self._recovery.rest():
                self._take(missed)
        if self._run is not None:
            self._run.cut("the next scan began")
            self._close(self._run)
        run = ScanRun(
            event.start,
            self._config,
            run=str(uuid.uuid4()),
            extras=self._extras,
            warm=self.warm,
        )
        log.info("scan %s opened as run %s", event.start.scan, run.info.run)
        self._begin(run, event.joined_late)
        self._recovery.opened(run)

    def _go_on(self) -> None:
        """Go on with the scan that was open when the service ended, if one was."""
        resumed = self._recovery.resume()
        self._detail = self._recovery.refused
        if resumed is None:
            return
        run = ScanRun(
            resumed.start,
            self._config,
            run=resumed.run,
            extras=self._extras,
            learned=resumed.learned,
            began_s=resumed.began_s,
        )
        log.info("scan %s resumed as run %s", run.start.scan, run.info.run)
        self._begin(run)

    def _begin(self, run: ScanRun, joined_late: bool = False) -> None:
        """Tell everybody of a run."""
        found = read_documents(documents_of(run.start.meta), self._config)
        self._ending, self._stretch = None, Stretch(self._config, found)
        self._run, self._detail = run, self._recovery.refused
        self._pixel_lags.forget()
        if joined_late:
            self._detail = "joined late: frames sent before are missing"
            log.warning("scan %s: %s", run.start.scan, self._detail)
        for sink in self._sinks:
            sink.start(run.info)
        self._publish(run)

    def _publish(self, run: ScanRun) -> None:
        """Show the newest snapshot to every sink."""
        began_s = time.monotonic()
        self._snapshot = run.snapshot()
        took_s = time.monotonic() - began_s
        self._publish_due_s = began_s + max(
            self._config.publish.every_s, took_s / SHOWN
        )
        if self._snapshot is not None:
            self._pixel_lags.drew(run.info.run, self._snapshot.step)
            for sink in self._sinks:
                sink.update(self._snapshot, self._counted(run))
        self._note()

    def _close(self, run: ScanRun) -> None:
        """Keep the result."""
        self._snapshot, end = run.result()
        if run.recon is not None and self._snapshot is not None:
            self.warm.keep(run.info.run, run.geometry, run.recon, self._snapshot)
        frames = self._counted(run)
        self._finished += 1
        kept = self._snapshot is not None
        if self._snapshot is not None:
            self._pixel_lags.drew(run.info.run, self._snapshot.step)
        self._end(Finished(run.info, end, frames, kept), raw_uid_of(run.start))
        for sink in self._sinks:
            sink.stop(self._snapshot, frames, end)
        log.info(
            "scan %s %s; refined until %s, %.1f s after the last frame",
            run.start.scan,
            end.reason,
            end.refined,
            end.seconds_after_last_frame,
        )
        self._run = None
        self._recovery.closed()
        self._note(frames)

    def _give_up(self, event: ScanOpened | Exposure | ScanClosed, why: str) -> None:
        """Close a scan that can't go on, with what there is of it."""
        self._detail = why
        if self._run is not None:
            self._run.cut(why, reason="error")
            self._close(self._run)
        elif isinstance(event, ScanOpened):
            info = RunInfo(str(uuid.uuid4()), event.start.scan, time.time())
            self._finished += 1
            end = RunEnd("error", why, 0.0)
            finished = Finished(info, end, FrameCounts(), kept=False)
            self._end(finished, raw_uid_of(event.start))
            self._note(FrameCounts())

    def _end(self, finished: Finished, raw_uid: str) -> None:
        """Remember an end: for whoever counts scans, and for whose run it was."""
        self._ended.append(finished)
        snapshot = self._snapshot if finished.kept else None
        quality = asdict(snapshot.quality) if snapshot else {}
        self._announced.ended(
            raw_uid or finished.info.scan,
            {
                "raw_uid": raw_uid or None,
                "run": finished.info.run,
                "scan": finished.info.scan,
                "started_s": finished.info.started_s,
                "kept": finished.kept,
                **asdict(finished.end),
                "frames": asdict(finished.frames),
                "quality": quality,
                "health": findings(snapshot),
            },
        )

    def _counted(self, run: ScanRun) -> FrameCounts:
        """Return a scan's frames; the last known ones while intake is beyond it."""
        frames = self._frames(run.start.scan, self._ending)
        if frames is None:
            same = self.state.run == run.info.run
            frames = self.state.frames if same else FrameCounts()
        frames = self._recovery.counted(frames, ended=self._ending is not None)
        lost = {**frames.lost, "far": run.far, "dark": run.dark}
        expected = frames.expected or run.start.frames_expected
        return replace(frames, expected=expected, lost=lost)

    def _note(self, frames: FrameCounts | None = None) -> None:
        """Keep the state for other threads; ``frames`` of a scan that has ended."""
        run, recon = self._run, self._run.recon if self._run else None
        store = recon.store_stats() if recon else None
        self.state = EngineState(
            phase=run.phase if run else "idle",
            run=run.info.run if run else "",
            scan=run.start.scan if run else "",
            raw_uid=raw_uid_of(run.start) if run else "",
            steps=recon.engine.steps if recon else 0,
            step_s=self._step_s,
            store_frames=store.frames if store else 0,
            store_capacity=store.capacity if store else 0,
            evicted=store.evicted if store else 0,
            ignored=self._ignored,
            finished_scans=self._finished,
            started_s=run.info.started_s if run else None,
            lag_s=self._lag_s,
            detail=self._detail or (run.note if run else ""),
            frames=self._counted(run) if run else frames or self.state.frames,
            geometry=run.info.provenance["geometry"] if run else {},
            snapshot=self._snapshot,
        )
        self._changed()
