"""Everybody's counts, turned into metrics twice a second by the service's thread."""

import platform
from collections.abc import Sequence
from dataclasses import asdict

import torch
from prometheus_client import CollectorRegistry

from ptystream.config import Config
from ptystream.ingest.pairing import FRAME_LOSSES
from ptystream.metrics import ENCODER_LOSSES, Metrics
from ptystream.publish.control import ControlServer
from ptystream.publish.runner import SinkThread
from ptystream.recon.build import pick_device
from ptystream.recon.snapshot import Quality
from ptystream.service.checkpoint import CheckpointSink
from ptystream.service.engine_state import EngineState, Finished
from ptystream.service.intake import Intake, IntakeStats
from ptystream.service.memory import device_memory
from ptystream.service.pixel_lag import PixelLags
from ptystream.service.reconstructing import Reconstructing

LOSSES = ("missing", "backlog", "far", "dark", *FRAME_LOSSES)
"""Why a frame of a scan is not in its picture."""


class Observer:
    """Reads what the stages count; one thread owns it."""

    def __init__(
        self,
        config: Config,
        registry: CollectorRegistry,
        intake: Intake,
        engine: Reconstructing,
        sinks: Sequence[SinkThread],
        pixel_lags: PixelLags,
        control: ControlServer,
        checkpoints: CheckpointSink | None = None,
    ) -> None:
        self._intake, self._engine, self._sinks = intake, engine, sinks
        self._control, self._checkpoints = control, checkpoints
        self._pixel_lags = pixel_lags
        self._waiting = config.scan.waiting
        self._device = pick_device(config.engine.device)
        names = [sink.name for sink in sinks]
        self._metrics = Metrics(registry, LOSSES, names, _build(self._device))

    def ended(self, scan: Finished) -> None:
        """Record a scan that ended, whose frames change no more."""
        self._metrics.observe_frames(scan.info.run, scan.frames)
        self._metrics.observe_scan_end(scan.end.reason)

    def observe(self, engine: EngineState, ended: set[str]) -> None:
        """Record all counts; ``engine`` may still be at a run that ``ended``."""
        intake = self._intake.stats()
        self._observe_engine(engine, ended)
        self._observe_timings()
        self._observe_intake(intake)
        self._observe_room(intake, engine)
        self._metrics.observe_turned_away(self._control.stats().turned_away)
        for sink in self._sinks:
            self._metrics.observe_sink(sink.stats())
        if self._checkpoints is not None:
            kept = self._checkpoints.stats
            self._metrics.observe_checkpoint(kept.written_s, kept.took_s)

    def _observe_engine(self, engine: EngineState, ended: set[str]) -> None:
        """Record phase, frames and quality; a run's quality is unknown at first."""
        m, snapshot = self._metrics, engine.snapshot
        m.observe_phase("held" if self._engine.held else engine.phase)
        m.observe_ignored(engine.ignored)
        if not engine.run or engine.run in ended:
            return
        m.observe_frames(engine.run, engine.frames)
        quality = snapshot.quality if snapshot else Quality()
        rolled_back = snapshot.rolled_back if snapshot else 0
        m.observe_quality(engine.run, quality, rolled_back)
        m.observe_health(snapshot.health if snapshot else ())

    def _observe_timings(self) -> None:
        """Record every step and lag since the last time."""
        m = self._metrics
        steps, lags = self._engine.take_timings()
        for observe, seconds in (
            (m.observe_step, steps),
            (m.observe_position_wait, self._intake.take_waits()),
            (m.observe_store_lag, lags),
            (m.observe_pixel_lag, self._pixel_lags.take()),
        ):
            for each_s in seconds:
                observe(each_s)

    def _observe_intake(self, intake: IntakeStats) -> None:
        """Record what came, and what was refused before it was anybody's frame."""
        det, pos, strays = intake.receiver, intake.positions, intake.strays
        m, epoch = self._metrics, str(intake.receiver_restarts)
        refused = {"on_wire": det.lost_on_wire, "undecodable": det.decode_errors}
        refused |= {"unknown": det.unknown_kinds, "ring_full": det.ring_full}
        m.observe_refused("det", refused, epoch)
        refused = {"on_wire": pos.lost_on_wire, "undecodable": pos.decode_errors}
        m.observe_refused("pos", {**refused, "unknown": pos.foreign})
        m.observe_traffic(det.bytes, pos.samples, epoch)
        m.observe_strays("det", strays.leftover_frames + strays.orphan_frames)
        m.observe_strays("pos", strays.leftover_samples + strays.orphan_samples)
        sampled = asdict(pos.sampled)
        m.observe_encoder({reason: sampled[reason] for reason in ENCODER_LOSSES})
        m.observe_restarts(intake.receiver_restarts)
        told_s = det.last_message_ns / 1e9
        m.observe_stream("det", connected=det.connected, arrived_s=told_s)
        told_s = pos.last_message_s
        m.observe_stream("pos", connected=pos.connected, arrived_s=told_s)

    def _observe_room(self, intake: IntakeStats, engine: EngineState) -> None:
        """Record how full everything is that has a bound."""
        det, join = intake.receiver, intake.counts.join if intake.counts else None
        fill = {
            "ring": det.ring_used_bytes / det.ring_bytes,
            "waiting": join.frames_waiting / self._waiting if join else 0.0,
            "backlog": self._intake.backlog.fill(),
        }
        self._metrics.observe_queues(fill, join.lead_frames if join else 0)
        store = engine.store_frames / (engine.store_capacity or 1)
        self._metrics.observe_store(engine.run, store, engine.evicted)
        self._metrics.observe_memory(*device_memory(self._device))


def _build(device: torch.device) -> dict[str, str]:
    """Return what is running: labels of one series, from no wire."""
    python, kind = platform.python_version(), device.type
    return {"python": python, "torch": torch.__version__, "device": kind}
