"""Every Prometheus metric, declared once; stages return stats and know nothing of this.

Labels come from closed sets given at the start, so each series, and any alert on
it, exists before the first event. Uids are never labels.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info

from ptystream import __version__
from ptystream.publish.runner import SinkStats
from ptystream.publish.sink import FrameCounts
from ptystream.recon.snapshot import Quality
from ptystream.wire.messages import EndReason

OTHER = "other"
"""The label of what is in no closed set: counted, never a new series."""

STREAMS = ("det", "pos")
ENCODER_LOSSES = ("lost", "unusable", "refused", "overflow")
"""Why an encoder's rows came to nothing before they were samples of a frame."""
REFUSALS = ("on_wire", "undecodable", "unknown", "ring_full")
"""Why a message came to nothing before it belonged to a scan."""

STEP_BUCKETS_S = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
LAG_BUCKETS_S = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


class _Total:
    """Feeds a counter from a total that starts again at 0 now and then."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._epoch = ""
        self._seen = 0.0

    def advance(self, total: float, epoch: str = "") -> None:
        """Count what is new; with a new epoch (a scan's uid) the total began at 0."""
        if epoch != self._epoch or total < self._seen:
            self._epoch, self._seen = epoch, 0.0
        self._counter.inc(total - self._seen)
        self._seen = total


class Metrics:
    """Turns stats into metrics in the registry; ``observe_*`` from one thread.

    ``loss_reasons`` and ``sinks`` close the labels; what is in neither counts as
    ``other``.
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
        self._declare_engine(registry)
        self._declare_liveness(registry)
        self._declare_refusals(registry)
        self._declare_sinks(registry, sinks)
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

    def observe_buffers(self, ring_fill: float, store_fill: float) -> None:
        """Record how full (0 to 1) the shared-memory ring and the frame store are."""
        self._ring_fill.set(ring_fill)
        self._store_fill.set(store_fill)

    def observe_step(self, seconds: float) -> None:
        """Count an engine step and the time it took."""
        self._step_seconds.observe(seconds)

    def observe_quality(self, run: str, quality: Quality, rolled_back: int) -> None:
        """Record a snapshot's quality; ``rolled_back`` is the total of this run."""
        self._loss.set(quality.loss)
        self._held_out.set(quality.held_out_error)
        self._flat.set(quality.flat_error)
        self._covered.set(quality.covered)
        self._rolled_back.advance(rolled_back, run)

    def observe_position_wait(self, seconds: float) -> None:
        """Record how long a frame waited for its position."""
        self._position_wait.observe(seconds)

    def observe_store_lag(self, seconds: float) -> None:
        """Record how long a frame took from its arrival into the store."""
        self._store_lag.observe(seconds)

    def observe_message(self, stream: str, arrived_s: float) -> None:
        """Note when (monotonic) a stream last said anything; its age is as scraped."""
        if stream in self._last_s:
            self._last_s[stream] = arrived_s

    def observe_refused(self, stream: str, totals: Mapping[str, int]) -> None:
        """Record a stream's messages that came to nothing, by ``REFUSALS``."""
        for reason, total in totals.items():
            self._refused[stream, reason].advance(total)

    def observe_encoder(self, totals: Mapping[str, int]) -> None:
        """Record encoder rows that came to nothing, by ``ENCODER_LOSSES``."""
        for reason, total in totals.items():
            self._encoder_lost[reason].advance(total)

    def observe_lead(self, frames: int) -> None:
        """Record by how many frames the detector is ahead of the positions."""
        self._lead.set(frames)

    def observe_strays(self, stream: str, total: int) -> None:
        """Record the frames (``det``) or samples (``pos``) that no scan wanted."""
        self._strays[stream].advance(total)

    def observe_restarts(self, total: int) -> None:
        """Record how often the receiver process had to be started again."""
        self._restarts.advance(total)

    def observe_sink(self, stats: SinkStats) -> None:
        """Record what a sink has done."""
        name = stats.name if stats.name in self._sinks else OTHER
        totals = (stats.delivered, stats.skipped, stats.failures, stats.refused_runs)
        for counter, total in zip(self._sinks[name], totals, strict=True):
            counter.advance(total)
        self._in_flight.labels(name).set(stats.in_flight_s)

    def observe_scan_end(self, reason: str) -> None:
        """Count a scan by how it ended."""
        self._scans.labels(reason if reason in get_args(EndReason) else OTHER).inc()

    def _declare_frames(
        self, registry: CollectorRegistry, loss_reasons: Iterable[str]
    ) -> None:
        received = Counter(
            "ptystream_frames_received",
            "Frames that arrived from the detector.",
            registry=registry,
        )
        paired = Counter(
            "ptystream_frames_paired",
            "Frames joined with their position.",
            registry=registry,
        )
        lost = Counter(
            "ptystream_frames_lost",
            "Frames lost, by where and why.",
            ["reason"],
            registry=registry,
        )
        self._received, self._paired = _Total(received), _Total(paired)
        names = dict.fromkeys((*loss_reasons, OTHER))
        self._lost = {reason: _Total(lost.labels(reason)) for reason in names}
        scans = Counter(
            "ptystream_scans",
            "Scans that ended, by how.",
            ["reason"],
            registry=registry,
        )
        for reason in (*get_args(EndReason), OTHER):
            scans.labels(reason)
        self._scans = scans

    def _declare_engine(self, registry: CollectorRegistry) -> None:
        gauge = partial(Gauge, registry=registry)
        self._ring_fill = gauge(
            "ptystream_ring_fill_ratio", "Share of the shared-memory ring in use."
        )
        self._store_fill = gauge(
            "ptystream_store_fill_ratio", "Share of the frame store in use."
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
        self._covered = gauge(
            "ptystream_covered_ratio", "Share of the scanned area with enough dose."
        )
        self._step_seconds = Histogram(
            "ptystream_step_seconds",
            "Time per engine step; its count is the number of steps.",
            buckets=STEP_BUCKETS_S,
            registry=registry,
        )
        rolled_back = Counter(
            "ptystream_steps_rolled_back",
            "Steps undone because they were not finite.",
            registry=registry,
        )
        self._rolled_back = _Total(rolled_back)

    def _declare_liveness(self, registry: CollectorRegistry) -> None:
        histogram = partial(Histogram, buckets=LAG_BUCKETS_S, registry=registry)
        self._position_wait = histogram(
            "ptystream_position_wait_seconds", "Time a frame waited for its position."
        )
        self._store_lag = histogram(
            "ptystream_store_lag_seconds",
            "Time from a frame's arrival until it could be trained on.",
        )
        age = Gauge(
            "ptystream_last_message_age_seconds",
            "Time since a stream last said anything; NaN before its first message.",
            ["stream"],
            registry=registry,
        )
        self._last_s: dict[str, float] = {s: float("nan") for s in STREAMS}
        for stream in STREAMS:
            age.labels(stream).set_function(partial(self._age_s, stream))

    def _declare_refusals(self, registry: CollectorRegistry) -> None:
        counter = partial(Counter, registry=registry)
        refused = counter(
            "ptystream_messages_lost",
            "Messages lost on the wire or refused, by stream and why.",
            ["stream", "reason"],
        )
        strays = counter(
            "ptystream_strays", "Frames or samples that belong to no scan.", ["stream"]
        )
        rows = counter(
            "ptystream_encoder_rows_lost",
            "Encoder rows that came to nothing, by why.",
            ["reason"],
        )
        self._encoder_lost = {r: _Total(rows.labels(r)) for r in ENCODER_LOSSES}
        self._lead = Gauge(
            "ptystream_lead_frames",
            "Frames by which the detector is ahead of the positions.",
            registry=registry,
        )
        restarts = counter(
            "ptystream_receiver_restarts", "Times the receiver process died."
        )
        self._refused = {
            (s, r): _Total(refused.labels(s, r)) for s in STREAMS for r in REFUSALS
        }
        self._strays = {s: _Total(strays.labels(s)) for s in STREAMS}
        self._restarts = _Total(restarts)

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
        self._in_flight = Gauge(
            "ptystream_sink_in_flight_seconds",
            "How long a sink's present call has lasted; 0 when idle.",
            ["sink"],
            registry=registry,
        )
        self._sinks = {
            name: tuple(_Total(counter.labels(name)) for counter in counters)
            for name in dict.fromkeys((*sinks, OTHER))
        }
        for name in self._sinks:
            self._in_flight.labels(name)

    def _age_s(self, stream: str) -> float:
        return self._clock() - self._last_s[stream]
