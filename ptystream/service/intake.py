"""The ingest side of a live service: sockets to events, in a thread of its own."""

import logging
import os
import threading
import time
from collections import deque
from dataclasses import dataclass, replace
from typing import Self

import zmq

from ptystream.config import Config
from ptystream.errors import ConfigError
from ptystream.ingest.encoders import Axis, EncoderTable
from ptystream.ingest.endpoint import check_taking, parse_endpoint
from ptystream.ingest.positions import PositionReader, PositionStats
from ptystream.ingest.process import ReceiverProcess, ReceiverStats
from ptystream.ingest.scans import (
    Event,
    ScanClosed,
    ScanCounts,
    ScanTracker,
    Strays,
    TrackerLimits,
)
from ptystream.service.backlog import Backlog
from ptystream.service.curve import curve_keys
from ptystream.settings import PositionSettings
from ptystream.wire.messages import Exposure

log = logging.getLogger(__name__)

MIB = 1 << 20
TICK_MS = 50
RESTART_S = 1.0
"""A receiver that died is started again after so long."""


@dataclass(frozen=True, slots=True)
class IntakeStats:
    """What has come in: by socket, by scan (None between scans), and what was lost."""

    receiver: ReceiverStats
    positions: PositionStats
    scan: str | None
    counts: ScanCounts | None
    strays: Strays
    receiver_restarts: int


class Intake:
    """Receiver process and position reader, joined into a backlog of events."""

    def __init__(self, config: Config) -> None:
        d, s = config.detector, config.scan
        self.backlog = Backlog(s.backlog)
        detector = parse_endpoint(d.endpoint, "det")
        check_taking(detector, allowed=d.allow_pull, how="detector.allow_pull = true")
        positions = parse_endpoint(config.positions.endpoint, "pos")
        self._receiver = ReceiverProcess(
            detector,
            ring_bytes=max(d.ring_mib, 3 * d.max_frame_mib) * MIB,
            max_frame_bytes=d.max_frame_mib * MIB,
            crop=d.crop,
            preprocess=d.preprocess,
            channel=d.channel,
            first_frame=d.first_frame,
            curve=curve_keys(d.curve, os.environ),
        )
        self._positions = PositionReader(
            positions,
            table=encoder_table(config.positions),
            per_frame=config.positions.per_frame,
            curve=curve_keys(config.positions.curve, os.environ),
        )
        self._tracker = ScanTracker(
            TrackerLimits(
                idle_s=s.idle_timeout_s,
                grace_s=s.late_s,
                frame_wait_s=s.late_s,
                max_frames=s.waiting,
                lag=config.positions.lag,
            ),
            named=detector.wire.names_scans and positions.wire.names_scans,
        )
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="intake")
        self._waits: deque[float] = deque(maxlen=4096)
        self._stats: IntakeStats | None = None
        self._restarts = 0
        self._restarting = False
        self.error: Exception | None = None

    def __enter__(self) -> Self:
        """Start the receiver process and the thread."""
        self._receiver.__enter__()
        self._positions.__enter__()
        self._note()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Close what is open as it stands, end the process."""
        self._stopping.set()
        self._thread.join(10.0)
        self._positions.__exit__(None, None, None)
        if not self._restarting:  # one that could not be started again is closed
            self._receiver.close()

    def halt(self) -> None:
        """Take nothing more in; the open scan is closed as it stands."""
        self._stopping.set()
        self._thread.join(10.0)

    def alive(self) -> bool:
        """Tell whether thread and receiver process run."""
        running = self._thread.is_alive() and not self._restarting
        return running and self._receiver.alive

    def stats(self) -> IntakeStats:
        """Return the counts as of the last turn."""
        if self._stats is None:
            raise RuntimeError("stats() before the intake was entered")
        return self._stats

    def take_waits(self) -> list[float]:
        """Return how long frames waited for their positions, since the last call."""
        return [self._waits.popleft() for _ in range(len(self._waits))]

    def _run(self) -> None:
        """Turn until told to stop; then close what is open."""
        poller = zmq.Poller()
        poller.register(self._positions.pollable, zmq.POLLIN)
        poller.register(self._receiver.fileno(), zmq.POLLIN)
        try:
            while not self._stopping.is_set():
                poller.poll(TICK_MS)
                self._turn(256)
                if not self._receiver.alive:
                    poller.unregister(self._receiver.fileno())
                    self._restart()
                    poller.register(self._receiver.fileno(), zmq.POLLIN)
            self.backlog.put([_aborted(event) for event in self._tracker.stop()])
            self._note()
        except Exception as error:  # the top of the thread; the service sees ``error``
            self.error = error
            log.exception("intake failed")

    def _turn(self, most: int) -> None:
        """Move what waits from the sockets into the backlog."""
        more = True
        while more and not self._stopping.is_set():
            now_s = time.monotonic()
            frames = self._receiver.drain(most)
            self._positions.observe(frames)
            for message in (*self._positions.poll(now_s, most), *frames):
                self._pass_on(self._tracker.feed(message, now_s), now_s)
            self._pass_on(self._tracker.tick(now_s), now_s)
            self._note()
            more = len(frames) == most

    def _pass_on(self, events: list[Event], now_s: float) -> None:
        """Put events into the backlog; note how long each frame waited to be joined."""
        for event in events:
            if isinstance(event, Exposure):
                # A frame may arrive within the very turn that joins it.
                self._waits.append(max(0.0, now_s - event.frame.arrived_s))
        self.backlog.put(events)

    def _restart(self) -> None:
        """Start a receiver that died again; frames sent meanwhile are lost, counted."""
        log.error("the receiver process died; starting it again")
        self._restarting = True
        self._restarts += 1
        self._receiver.close()
        self._stopping.wait(RESTART_S)
        self._receiver.__enter__()
        self._note()
        self._restarting = False

    def _note(self) -> None:
        """Keep the counts for other threads."""
        self._stats = IntakeStats(
            self._receiver.stats(),
            self._positions.stats(),
            self._tracker.scan,
            self._tracker.counts(),
            self._tracker.strays(),
            self._restarts,
        )


def encoder_table(settings: PositionSettings) -> EncoderTable | None:
    """Return which encoder column is which axis; None if no settings say.

    Raises:
        ConfigError: one axis is set, the other isn't.
    """
    if settings.y is None and settings.x is None:
        return None
    if settings.y is None or settings.x is None:
        raise ConfigError("positions.y and positions.x: expected both, or neither")
    y, x = (Axis(a.column, a.scale_m, a.offset_m) for a in (settings.y, settings.x))
    return EncoderTable(y, x, settings.time, settings.monitor)


def _aborted(event: Event) -> Event:
    """Name the end of a scan that we cut short; one that had ended keeps its own."""
    if isinstance(event, ScanClosed) and event.reason == "timed out":
        return replace(event, reason="aborted")
    return event
