"""Every Prometheus metric, declared once; stages return stats and know nothing of this.

Labels come from closed sets given at the start, so each series, and any alert on
it, exists before the first event. Uids are never labels.
"""

import math
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
)

from ptystream import __version__
from ptystream.ingest.events import CLOSE_REASONS
from ptystream.publish.runner import SinkStats
from ptystream.publish.sink import FrameCounts
from ptystream.recon.findings import FAULTS, Finding
from ptystream.recon.snapshot import Quality

OTHER = "other"
"""The label of what is in no closed set: counted, never a new series."""

STREAMS = ("det", "pos")
QUEUES = ("ring", "waiting", "backlog")
"""Shared memory; frames that wait for positions; exposures that wait for the engine."""
PHASES = ("idle", "waiting", "live", "held", "refining", "done")
"""The service's states; ``waiting`` is for a scan's first exposures."""
ENCODER_LOSSES = ("lost", "unusable", "refused", "overflow")
"""Why an encoder's rows came to nothing before they were samples of a frame."""
REFUSALS = ("on_wire", "undecodable", "unknown", "ring_full")
"""Why a message came to nothing before it belonged to a scan."""
SCAN_ENDS = (*CLOSE_REASONS, OTHER)

STEP_BUCKETS_S = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
LAG_BUCKETS_S = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)

NAN = math.nan


class _Total:
    """Feeds a counter from a total that starts again at 0 now and then."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._epoch = ""
        self._seen = 0.0

    def advance(self, total: float, epoch: str = "") -> None:
        """Count what is new; with a new epoch (a scan's uid) the total began at 0.

        One that falls within its epoch, as missing frames do that come late after all,
        counts again from where it was highest.
        """
        if epoch != self._epoch:
            self._epoch, self._seen = epoch, 0.0
        self._counter.inc(max(0.0, total - self._seen))
        self._seen = max(self._seen, total)


def _total(registry: CollectorRegistry, name: str, about: str) -> _Total:
    """Declare a counter without labels that is fed from a total."""
    return _Total(Counter(f"ptystream_{name}", about, registry=registry))


class Metrics:
    """Turns stats into metrics in the registry; ``observe_*`` from one thread.

    ``loss_reasons`` and ``sinks`` close the labels; what is in neither counts as
    ``other``. ``build`` says what is running, besides the version.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        loss_reasons: Iterable[str] = (),
        sinks: Iterable[str] = (),
        build: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._declare_frames(registry, loss_reasons)
        self._declare_streams(registry)
        self._declare_room(registry)
        self._declare_engine(registry)
        self._declare_lags(registry)
        self._declare_sinks(registry, sinks)
        ProcessCollector(registry=registry)
        info = Info("ptystream_build", "What is running.", registry=registry)
        info.info({"version": __version__, **(build or {})})

    def observe_frames(self, run: str, frames: FrameCounts) -> None:
        """Record the run's frames so far; counts start again with a new run's uid."""
        self._received.advance(frames.received, run)
        self._paired.advance(frames.paired, run)
        lost = dict.fromkeys(self._lost, 0)
        for reason, count in frames.lost.items():
            lost[reason if reason in lost else OTHER] += count
        for reason, count in lost.items():
            self._lost[reason].advance(count, run)

    def observe_scan_end(self, reason: str) -> None:
        """Count a scan by how it ended."""
        self._scans.labels(reason if reason in SCAN_ENDS else OTHER).inc()

    def observe_ignored(self, total: int) -> None:
        """Record the exposures that came after their run was over."""
        self._ignored.advance(total)

    def observe_stream(self, stream: str, *, connected: bool, arrived_s: float) -> None:
        """Note whether a stream is connected, and when (monotonic) it last spoke.

        ``arrived_s`` 0: never. Its age grows from scrape to scrape by itself.
        """
        self._connected.labels(stream).set(connected)
        self._last_s[stream] = arrived_s or NAN

    def observe_traffic(self, frame_bytes: int, samples: int, epoch: str = "") -> None:
        """Record bytes of frames, and rows of positions; ``epoch``: the receiver's."""
        self._bytes.advance(frame_bytes, epoch)
        self._samples.advance(samples)

    def observe_refused(
        self, stream: str, totals: Mapping[str, int], epoch: str = ""
    ) -> None:
        """Record a stream's messages that came to nothing, by ``REFUSALS``."""
        for reason, total in totals.items():
            self._refused[stream, reason].advance(total, epoch)

    def observe_encoder(self, totals: Mapping[str, int]) -> None:
        """Record encoder rows that came to nothing, by ``ENCODER_LOSSES``."""
        for reason, total in totals.items():
            self._encoder_lost[reason].advance(total)

    def observe_strays(self, stream: str, total: int) -> None:
        """Record the frames (``det``) or samples (``pos``) that no scan wanted."""
        self._strays[stream].advance(total)

    def observe_restarts(self, total: int) -> None:
        """Record how often the receiver process had to be started again."""
        self._restarts.advance(total)

    def observe_turned_away(self, total: int) -> None:
        """Record how often a key that isn't listed was turned away."""
        self._turned_away.advance(total)

    def observe_queues(self, fill: Mapping[str, float], lead_frames: int) -> None:
        """Record how full (0 to 1) each of ``QUEUES`` is, and the detector's lead."""
        for queue, share in fill.items():
            self._queue_fill.labels(queue).set(share)
        self._lead.set(lead_frames)

    def observe_store(self, run: str, fill: float, evicted: int) -> None:
        """Record the store's fill (0 to 1), and the run's frames that made room."""
        self._store_fill.set(fill)
        self._evicted.advance(evicted, run)

    def observe_memory(self, used_bytes: float, total_bytes: float) -> None:
        """Record the memory of the device that the engine runs on; NaN: unknown."""
        self._memory_used.set(used_bytes)
        self._memory_total.set(total_bytes)

    def observe_phase(self, phase: str) -> None:
        """Record which of ``PHASES`` the service is in."""
        for name in PHASES:
            self._phase.labels(name).set(name == phase)

    def observe_step(self, seconds: float) -> None:
        """Count an engine step and the time it took."""
        self._step_seconds.observe(seconds)

    def observe_quality(self, run: str, quality: Quality, rolled_back: int) -> None:
        """Record a snapshot's quality; ``rolled_back`` is the total of this run."""
        self._loss.set(quality.loss)
        self._held_out.set(quality.held_out_error)
        self._flat.set(quality.flat_error)
        self._noise.set(quality.noise_error)
        self._covered.set(quality.covered)
        self._resolution.set(quality.resolution_m)
        self._converged.set(quality.converged)
        self._rolled_back.advance(rolled_back, run)

    def observe_health(self, findings: Iterable[Finding]) -> None:
        """Record which of ``FAULTS`` the data show."""
        found = {finding.fault for finding in findings}
        for fault in FAULTS:
            self._health.labels(fault).set(fault in found)

    def observe_position_wait(self, seconds: float) -> None:
        """Record how long a frame waited for its position."""
        self._position_wait.observe(seconds)

    def observe_store_lag(self, seconds: float) -> None:
        """Record how long a frame took from its arrival into the store."""
        self._store_lag.observe(seconds)

    def observe_pixel_lag(self, seconds: float) -> None:
        """Record how long a frame took from its arrival into a picture."""
        self._pixel_lag.observe(seconds)

    def observe_checkpoint(self, written_s: float | None, took_s: float) -> None:
        """Record when (monotonic; None: never) the newest was written, in how long."""
        self._checkpoint_s = written_s or NAN
        self._checkpoint_took.set(took_s)

    def observe_sink(self, stats: SinkStats) -> None:
        """Record what a sink has done."""
        name = stats.name if stats.name in self._sinks else OTHER
        totals = (stats.delivered, stats.skipped, stats.failures, stats.refused_runs)
        for counter, total in zip(self._sinks[name], totals, strict=True):
            counter.advance(total)
        self._in_flight.labels(name).set(stats.in_flight_s)

    def _declare_frames(
        self, registry: CollectorRegistry, loss_reasons: Iterable[str]
    ) -> None:
        counter = partial(Counter, registry=registry)
        total = partial(_total, registry)
        self._received = total("frames_received", "Frames of scans that arrived.")
        self._paired = total("frames_paired", "Frames joined with their position.")
        lost = counter(
            "ptystream_frames_lost", "Frames lost, by where and why.", ["reason"]
        )
        names = dict.fromkeys((*loss_reasons, OTHER))
        self._lost = {reason: _Total(lost.labels(reason)) for reason in names}
        self._ignored = total(
            "exposures_ignored",
            "Exposures that came after their run was stopped or given up.",
        )
        self._scans = counter(
            "ptystream_scans", "Scans that ended, by how.", ["reason"]
        )
        for reason in SCAN_ENDS:
            self._scans.labels(reason)

    def _declare_streams(self, registry: CollectorRegistry) -> None:
        total = partial(_total, registry)
        gauge = partial(Gauge, labelnames=["stream"], registry=registry)
        self._connected = gauge(
            "ptystream_connected", "Whether a stream's socket is connected."
        )
        age = gauge(
            "ptystream_last_message_age_seconds",
            "Time since a stream last said anything; NaN before its first message.",
        )
        self._last_s: dict[str, float] = dict.fromkeys(STREAMS, NAN)
        for stream in STREAMS:
            self._connected.labels(stream)
            age.labels(stream).set_function(partial(self._age_s, stream))
        self._bytes = total("received_bytes", "Bytes of decoded frames.")
        self._samples = total("samples_received", "Rows of positions that arrived.")
        self._declare_refusals(partial(Counter, registry=registry))
        self._restarts = total("receiver_restarts", "Times the receiver process died.")
        self._turned_away = total(
            "handshakes_refused", "Handshakes with a key that isn't listed."
        )

    def _declare_refusals(self, counter: Callable[..., Counter]) -> None:
        refused = counter(
            "ptystream_messages_lost",
            "Messages lost on the wire or refused, by stream and why.",
            ["stream", "reason"],
        )
        rows = counter(
            "ptystream_encoder_rows_lost",
            "Encoder rows that came to nothing, by why.",
            ["reason"],
        )
        strays = counter(
            "ptystream_strays", "Frames or samples that belong to no scan.", ["stream"]
        )
        self._refused = {
            (s, r): _Total(refused.labels(s, r)) for s in STREAMS for r in REFUSALS
        }
        self._encoder_lost = {r: _Total(rows.labels(r)) for r in ENCODER_LOSSES}
        self._strays = {s: _Total(strays.labels(s)) for s in STREAMS}

    def _declare_room(self, registry: CollectorRegistry) -> None:
        gauge = partial(Gauge, registry=registry)
        self._queue_fill = gauge(
            "ptystream_queue_fill_ratio", "Share of a queue in use.", ["queue"]
        )
        for queue in QUEUES:
            self._queue_fill.labels(queue)
        self._lead = gauge(
            "ptystream_lead_frames",
            "Frames by which the detector is ahead of the positions.",
        )
        self._store_fill = gauge(
            "ptystream_store_fill_ratio", "Share of the frame store in use."
        )
        self._evicted = _total(
            registry,
            "store_evicted",
            "Frames that made room for newer ones in a full store.",
        )
        self._memory_used = gauge(
            "ptystream_device_memory_used_bytes",
            "Memory in use on the engine's GPU by anybody; "
            "without one, main memory of this process.",
        )
        self._memory_total = gauge(
            "ptystream_device_memory_total_bytes", "All memory of the same device."
        )

    def _declare_engine(self, registry: CollectorRegistry) -> None:
        gauge = partial(Gauge, registry=registry)
        self._phase = gauge(
            "ptystream_phase", "1 for what the service is doing, else 0.", ["phase"]
        )
        self.observe_phase("idle")
        self._step_seconds = Histogram(
            "ptystream_step_seconds",
            "Time per engine step; its count is the number of steps.",
            buckets=STEP_BUCKETS_S,
            registry=registry,
        )
        self._rolled_back = _total(
            registry, "steps_rolled_back", "Steps undone because they were not finite."
        )
        self._loss = gauge("ptystream_loss", "Training loss of the last snapshot.")
        self._held_out = gauge(
            "ptystream_held_out_error_ratio",
            "Relative amplitude error on frames never trained on.",
        )
        self._flat = gauge(
            "ptystream_flat_error_ratio",
            "The same for an empty object: what a reconstruction must beat.",
        )
        self._health = gauge(
            "ptystream_health_findings",
            "1 for each fault that the data show against the configuration, else 0.",
            ["fault"],
        )
        self.observe_health(())
        self._noise = gauge(
            "ptystream_noise_error_ratio", "What photon noise alone would leave of it."
        )
        self._covered = gauge(
            "ptystream_covered_ratio", "Share of the scanned area with enough dose."
        )
        self._resolution = gauge(
            "ptystream_resolution_metres",
            "Half a period of the finest detail that two halves of the data agree on; "
            "NaN where not asked for or not known.",
        )
        self._converged = gauge(
            "ptystream_converged", "1 while the held-out error has stopped falling."
        )

    def _declare_lags(self, registry: CollectorRegistry) -> None:
        histogram = partial(Histogram, buckets=LAG_BUCKETS_S, registry=registry)
        self._position_wait = histogram(
            "ptystream_position_wait_seconds", "Time a frame waited for its position."
        )
        self._store_lag = histogram(
            "ptystream_store_lag_seconds",
            "Time from a frame's arrival until it could be trained on.",
        )
        self._pixel_lag = histogram(
            "ptystream_pixel_lag_seconds",
            "Time from a frame's arrival until a picture made with it went out.",
        )

    def _declare_sinks(self, registry: CollectorRegistry, sinks: Iterable[str]) -> None:
        counters = [
            Counter(f"ptystream_sink_{what}", text, ["sink"], registry=registry)
            for what, text in (
                ("delivered", "Messages a sink has taken."),
                ("skipped", "Snapshots overtaken by newer ones before their turn."),
                ("failures", "Messages a sink has failed to deliver."),
                ("refused_runs", "Runs that came while too many waited for a sink."),
            )
        ]
        gauge = partial(Gauge, registry=registry)
        about = "How long a sink's present call has lasted; 0 when idle."
        self._in_flight = gauge("ptystream_sink_in_flight_seconds", about, ["sink"])
        self._sinks = {
            name: tuple(_Total(counter.labels(name)) for counter in counters)
            for name in dict.fromkeys((*sinks, OTHER))
        }
        for name in self._sinks:
            self._in_flight.labels(name)
        about = "Time since the scan's newest checkpoint; NaN where there is none."
        age = gauge("ptystream_checkpoint_age_seconds", about)
        age.set_function(lambda: self._clock() - self._checkpoint_s)
        about = "Time that the newest checkpoint took to write."
        self._checkpoint_took = gauge("ptystream_checkpoint_seconds", about)
        self.observe_checkpoint(None, NAN)

    def _age_s(self, stream: str) -> float:
        return self._clock() - self._last_s[stream]
