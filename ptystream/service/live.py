"""The live service: builds the stages, joins them, starts them, stops them."""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from prometheus_client import CollectorRegistry

from ptystream.config import Config
from ptystream.errors import ConfigError, StoppedError
from ptystream.ingest.pairing import FRAME_LOSSES
from ptystream.ingest.scans import ScanCounts
from ptystream.metrics import ENCODER_LOSSES, Metrics
from ptystream.publish.control import ControlServer
from ptystream.publish.files import FileSink
from ptystream.publish.picture_sink import PictureSink
from ptystream.publish.preview import PreviewSink
from ptystream.publish.runner import SinkThread
from ptystream.publish.sink import FrameCounts, Sink
from ptystream.publish.stack import StackSink
from ptystream.recon.snapshot import Quality
from ptystream.service.announced import Announced
from ptystream.service.commands import Commands
from ptystream.service.intake import Intake, IntakeStats
from ptystream.service.outlets import outlets, pva_server
from ptystream.service.reconstructing import EngineState, Finished, Reconstructing
from ptystream.service.scan import NO_EXTRAS, Extras
from ptystream.status import ServiceStatus, StatusServer

log = logging.getLogger(__name__)

LOSSES = ("missing", "backlog", "far", "dark", *FRAME_LOSSES)
STOP_S = 8.0
"""Patience with the engine when the service ends; sinks have their own."""
WATCH_S = 0.1
OBSERVE_S = 0.5


class Service:
    """Everything between the beamline's sockets and the world's."""

    def __init__(self, config: Config, *, extras: Extras = NO_EXTRAS) -> None:
        p = config.publish
        self._began_s = time.monotonic()
        self._intake = Intake(config)
        self._announced = Announced()
        self._files = FileSink(Path(p.results))
        self._stacks = StackSink(Path(p.results), self._changed)
        self._pva = pva_server(p)
        self._sinks = [SinkThread(sink) for sink in self._make_sinks(config)]
        self._engine = Reconstructing(
            config,
            self._intake.backlog,
            self._sinks,
            self.frames,
            extras=extras,
            changed=self._changed,
            announced=self._announced,
        )
        threads = {thread.name: thread for thread in self._sinks}
        commands = Commands(
            config,
            self._engine,
            self._announced,
            (threads[self._files.name], self._files),
            (threads[self._stacks.name], self._stacks),
        )
        self._control = ControlServer(
            commands.table(), self.status, p.control, p.status, p.preview
        )
        registry = CollectorRegistry()
        self._metrics = Metrics(registry, LOSSES, [s.name for s in self._sinks])
        self._finishing = False
        host, port = _host_and_port(p.metrics)
        self._http = StatusServer(registry, self._alive, self._ready, host, port)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Open every socket and start every thread, sinks first.

        Raises:
            ConfigError: an address can't be bound, or an extra is not installed.
            StoppedError: the receiver process doesn't come up.
        """
        with ExitStack() as stack:
            stack.enter_context(self._intake)
            stack.enter_context(self._control)
            stack.enter_context(self._http)
            if self._pva is not None:
                stack.enter_context(self._pva)
            for sink in self._sinks:
                stack.enter_context(sink)
            self._engine.start()
            stack.callback(self._finish)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop upstream first: intake, engine, sinks; the last snapshot is kept."""
        self._stack.close()

    def run(
        self,
        stop: threading.Event,
        *,
        scans: int | None = None,
        finished: Callable[[Mapping[str, Any]], None] = lambda _: None,
    ) -> None:
        """Serve until ``stop`` is set, or this many scans are finished; then end.

        ``finished`` is told of each scan that ended, safe as JSON.

        Raises:
            StoppedError: a worker died of an error, or the engine hangs in a step.
        """
        observed_s, done = 0.0, 0
        while not stop.is_set() and (scans is None or done < scans):
            for worker in (self._intake, self._engine, self._control):
                if worker.error is not None:
                    raise StoppedError(f"{type(worker).__name__}: {worker.error!r}")
            state = self._engine.state  # read first: what ended since is told next
            told = self._tell(finished)
            done += len(told)
            if time.monotonic() - observed_s >= OBSERVE_S:
                observed_s = time.monotonic()
                self._observe(state, told)
            stop.wait(WATCH_S)
        self._finish()
        self._tell(finished)
        if self.hangs:
            raise StoppedError("the engine hangs in a step")

    @property
    def hangs(self) -> bool:
        """Whether the engine was told to end, and was left behind."""
        return self._finishing and self._engine.alive()

    def addresses(self) -> dict[str, str]:
        """Return where the service can be reached, with the ports that were bound."""
        return {
            "control": self._control.control_address,
            "status": self._control.status_address,
            "preview": self._control.preview_address,
            "http": self._http.address,
            **({} if self._pva is None else {"pva": self._pva.address}),
        }

    def status(self) -> dict[str, Any]:
        """Return the state of the service, safe as JSON."""
        intake, engine = self._intake.stats(), self._engine.state
        now_s = time.monotonic()
        snapshot = engine.snapshot
        positions_s, frames_ns = (
            intake.positions.last_message_s,
            intake.receiver.last_message_ns,
        )
        return ServiceStatus(
            state="held" if self._engine.held else engine.phase,
            run=engine.run or None,
            scan=engine.scan or None,
            raw_uid=engine.raw_uid or None,
            armed=self._announced.armed,
            last=self._announced.last,
            stack=self._stacks.as_dict(),
            started_s=engine.started_s,
            step=engine.steps,
            exposures=snapshot.exposures if snapshot else 0,
            frames=engine.frames,
            quality=snapshot.quality if snapshot else Quality(),
            steps_per_s=1 / engine.step_s if engine.step_s else float("nan"),
            message_age_s={
                "det": now_s - frames_ns / 1e9 if frames_ns else float("nan"),
                "pos": now_s - positions_s if positions_s else float("nan"),
            },
            sinks=tuple(sink.stats() for sink in self._sinks),
            lag_s=engine.lag_s,
            detail=engine.detail or intake.positions.sampled.reason,
            finished_scans=engine.finished_scans,
            ignored_exposures=engine.ignored,
        ).as_dict()

    def frames(self, scan: str, counts: ScanCounts | None) -> FrameCounts | None:
        """Return a closed scan's frames by its counts, else those of the open one.

        None if neither is known: another scan is open by now.
        """
        stats = self._intake.stats()
        if counts is None and stats.scan == scan:
            counts = stats.counts
        if counts is None:
            return None
        lost = {
            "missing": counts.frames_missing,
            "backlog": self._intake.backlog.dropped(scan),
            **counts.join.frames_lost,
        }
        return FrameCounts(
            counts.frames_expected, counts.join.frames, counts.join.paired, lost
        )

    def _make_sinks(self, config: Config) -> list[Sink]:
        """Return the sinks that the configuration asks for."""
        sinks: list[Sink] = [
            self._files,
            PreviewSink(lambda picture: self._control.show(picture)),
            self._stacks,
        ]
        if config.publish.picture:
            sinks.append(PictureSink(self._files.path))
        return [*sinks, *outlets(config.publish, self._pva)]

    def _changed(self) -> None:
        """Have the status published."""
        self._control.changed()

    def _finish(self) -> None:
        """End intake, then the engine; sinks follow with what is left to keep."""
        if self._finishing:
            return
        self._finishing = True
        self._intake.halt()
        self._engine.finish(STOP_S)

    def _tell(self, finished: Callable[[Mapping[str, Any]], None]) -> set[str]:
        """Tell of the scans that ended since the last call; return their runs."""
        ended = self._engine.take_finished()
        for scan in ended:
            self._metrics.observe_frames(scan.info.run, scan.frames)
            self._metrics.observe_scan_end(scan.end.reason)
            finished(self._told(scan))
        return {scan.info.run for scan in ended}

    def _told(self, finished: Finished) -> dict[str, Any]:
        """Return what the world is told of a scan that ended."""
        return {
            "scan": finished.info.scan,
            "run": finished.info.run,
            **asdict(finished.end),
            "frames": asdict(finished.frames),
            "result": str(self._files.path(finished.info)) if finished.kept else None,
        }

    def _alive(self) -> dict[str, bool]:
        """Return which workers live."""
        return {
            "intake": self._intake.alive(),
            "engine": self._engine.alive(),
            "control": self._control.alive(),
        }

    def _ready(self) -> dict[str, bool]:
        """Return whether a scan that began now would be seen."""
        stats = self._intake.stats()
        return {
            **self._alive(),
            "detector": stats.receiver.connected,
            "positions": stats.positions.connected,
        }

    def _observe(self, engine: EngineState, told: set[str]) -> None:
        """Turn everybody's counts into metrics; runs that were told are counted."""
        intake, m = self._intake.stats(), self._metrics
        if engine.run and engine.run not in told:
            m.observe_frames(engine.run, engine.frames)
            if engine.snapshot is not None:
                rolled_back = engine.snapshot.rolled_back
                m.observe_quality(engine.run, engine.snapshot.quality, rolled_back)
        capacity = engine.store_capacity or 1
        m.observe_buffers(
            intake.receiver.ring_used_bytes / intake.receiver.ring_bytes,
            engine.store_frames / capacity,
        )
        steps, lags = self._engine.take_timings()
        for seconds in steps:
            m.observe_step(seconds)
        for lag_s in lags:
            m.observe_store_lag(lag_s)
        for wait_s in self._intake.take_waits():
            m.observe_position_wait(wait_s)
        self._observe_intake(intake)
        for sink in self._sinks:
            m.observe_sink(sink.stats())

    def _observe_intake(self, intake: IntakeStats) -> None:
        """Record what came, and what was refused before it was anybody's frame."""
        det, pos, strays, m = (
            intake.receiver,
            intake.positions,
            intake.strays,
            self._metrics,
        )
        refused = {"on_wire": det.lost_on_wire, "undecodable": det.decode_errors}
        refused |= {"unknown": det.unknown_kinds, "ring_full": det.ring_full}
        m.observe_refused("det", refused)
        refused = {"on_wire": pos.lost_on_wire, "undecodable": pos.decode_errors}
        m.observe_refused("pos", {**refused, "unknown": pos.foreign})
        m.observe_strays("det", strays.leftover_frames + strays.orphan_frames)
        m.observe_strays("pos", strays.leftover_samples + strays.orphan_samples)
        sampled = asdict(pos.sampled)
        m.observe_encoder({reason: sampled[reason] for reason in ENCODER_LOSSES})
        if intake.counts is not None:
            m.observe_lead(intake.counts.join.lead_frames)
        m.observe_restarts(intake.receiver_restarts)
        if det.last_message_ns:
            m.observe_message("det", det.last_message_ns / 1e9)
        if pos.last_message_s:
            m.observe_message("pos", pos.last_message_s)


def _host_and_port(address: str) -> tuple[str, int]:
    """Split ``HOST:PORT``; ConfigError if it is none."""
    host, colon, port = address.rpartition(":")
    if not (colon and host and port.isdigit()):
        raise ConfigError(f"publish.metrics {address!r}: expected HOST:PORT")
    return host, int(port)
