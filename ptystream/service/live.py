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
from ptystream.ingest.scans import ScanCounts
from ptystream.publish.atomic import sweep
from ptystream.publish.control import ControlServer
from ptystream.publish.files import FileSink
from ptystream.publish.findings import findings
from ptystream.publish.images import Picture
from ptystream.publish.preview import PreviewSink
from ptystream.publish.report_sink import ReportSink
from ptystream.publish.runner import SinkThread
from ptystream.publish.sink import FrameCounts, RunInfo, Sink
from ptystream.publish.stack import StackSink
from ptystream.recon.snapshot import Quality
from ptystream.service.announced import Announced
from ptystream.service.checkpoint import CheckpointSink
from ptystream.service.commands import LOOKS, Commands
from ptystream.service.curve import server_admission
from ptystream.service.engine_state import Finished
from ptystream.service.intake import Intake
from ptystream.service.observing import Observer
from ptystream.service.outlets import outlets, pva_server
from ptystream.service.outline import outline
from ptystream.service.pixel_lag import PixelLags
from ptystream.service.reconstructing import Reconstructing
from ptystream.service.resume import Recovery
from ptystream.service.scan import NO_EXTRAS, Extras
from ptystream.status import ServiceStatus, StatusServer

log = logging.getLogger(__name__)

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
        self._settings = outline(config)
        folder, beside = Path(p.results), config.checkpoint
        self._folders = {folder, Path(beside.folder or folder)}
        self._checkpoints: CheckpointSink | None = None
        if beside.tape is not None:
            self._checkpoints = CheckpointSink(Path(beside.folder or folder))
        self._files = FileSink(folder, kept=self._forget)
        self._stacks = StackSink(Path(p.results), self._changed)
        self._pva = pva_server(p)
        self._pixel_lags = PixelLags()
        self._sinks = [SinkThread(sink) for sink in self._make_sinks(config)]
        threads = {thread.name: thread for thread in self._sinks}
        recovery = Recovery(config)
        if self._checkpoints is not None:
            soon = threads[self._checkpoints.name].soon
            recovery = Recovery(config, self._checkpoints, soon)
        self._engine = Reconstructing(
            config,
            self._intake.backlog,
            self._sinks,
            self.frames,
            extras=extras,
            changed=self._changed,
            announced=self._announced,
            pixel_lags=self._pixel_lags,
            recovery=recovery,
        )
        commands = Commands(
            config,
            self._engine,
            self._announced,
            (threads[self._files.name], self._files),
            (threads[self._stacks.name], self._stacks),
        )
        self._control = ControlServer(
            commands.table(),
            self.status,
            p.control,
            p.status,
            p.preview,
            curve=server_admission(p.curve),
            insecure=p.insecure,
            looks=LOOKS,
        )
        registry = CollectorRegistry()
        self._observer = Observer(
            config,
            registry,
            self._intake,
            self._engine,
            self._sinks,
            self._pixel_lags,
            self._control,
            self._checkpoints,
        )
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
        for folder in self._folders:
            sweep(folder)
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
                self._observer.observe(state, told)
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
            settings=self._settings,
            geometry=engine.geometry,
            started_s=engine.started_s,
            step=engine.steps,
            exposures=snapshot.exposures if snapshot else 0,
            frames=engine.frames,
            quality=snapshot.quality if snapshot else Quality(),
            health=findings(snapshot),
            steps_per_s=1 / engine.step_s if engine.step_s else float("nan"),
            message_age_s={
                "det": now_s - frames_ns / 1e9 if frames_ns else float("nan"),
                "pos": now_s - positions_s if positions_s else float("nan"),
            },
            sinks=tuple(sink.stats() for sink in self._sinks),
            lag_s=engine.lag_s,
            detail=engine.detail
            or intake.positions.sampled.reason
            or self._intake.backlog.detail,
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
            PreviewSink(self._show),
            self._stacks,
        ]
        if self._checkpoints is not None:
            sinks.append(self._checkpoints)
        if config.publish.picture:
            page = config.publish.report
            sinks.append(ReportSink(self._files.path, page=page))
        return [*sinks, *outlets(config.publish, self._pva)]

    def _forget(self, info: RunInfo) -> None:
        """Remove the checkpoint of a run whose result is on disk."""
        if self._checkpoints is not None:
            self._checkpoints.forget(info)

    def _show(self, picture: Picture) -> None:
        """Have a picture published, and note which exposures it shows."""
        self._control.show(picture)
        about = picture.about
        self._pixel_lags.shown(str(about["run"]), int(str(about["step"])))

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
            self._observer.ended(scan)
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


def _host_and_port(address: str) -> tuple[str, int]:
    """Split ``HOST:PORT``; ConfigError if it is none."""
    host, colon, port = address.rpartition(":")
    if not (colon and host and port.isdigit()):
        raise ConfigError(f"publish.metrics {address!r}: expected HOST:PORT")
    return host, int(port)
