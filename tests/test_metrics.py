import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest

from ptystream.ingest.events import CLOSE_REASONS
from ptystream.metrics import ENCODER_LOSSES, PHASES, QUEUES, REFUSALS, STREAMS, Metrics
from ptystream.publish.runner import SinkStats
from ptystream.publish.sink import FrameCounts
from ptystream.recon.findings import FAULTS, Finding
from ptystream.recon.snapshot import Quality


@pytest.fixture
def registry():
    return CollectorRegistry()


def value(registry, name, **labels):
    return registry.get_sample_value(f"ptystream_{name}", labels)


def series(registry):
    """Every series that there is, by name and labels."""
    return {
        (sample.name, *sorted(sample.labels.items()))
        for family in registry.collect()
        for sample in family.samples
        if sample.name.startswith("ptystream")
    }


def test_every_series_exists_before_the_first_event(registry):
    Metrics(registry, ("ring_full",), ("files",), {"commit": "abc"})
    for name, labels in [
        ("frames_received_total", {}),
        ("frames_paired_total", {}),
        ("frames_lost_total", {"reason": "ring_full"}),
        ("frames_lost_total", {"reason": "other"}),
        ("received_bytes_total", {}),
        ("samples_received_total", {}),
        ("exposures_ignored_total", {}),
        ("scans_total", {"reason": "complete"}),
        ("scans_total", {"reason": "timed out"}),
        ("connected", {"stream": "pos"}),
        ("queue_fill_ratio", {"queue": "backlog"}),
        ("store_evicted_total", {}),
        ("phase", {"phase": "live"}),
        ("sink_failures_total", {"sink": "files"}),
        ("sink_refused_runs_total", {"sink": "files"}),
        ("step_seconds_count", {}),
        ("pixel_lag_seconds_count", {}),
        ("steps_rolled_back_total", {}),
    ]:
        assert value(registry, name, **labels) == 0, name
    assert value(registry, "phase", phase="idle") == 1
    text = generate_latest(registry).decode()
    assert 'ptystream_build_info{commit="abc",version="' in text
    helps = [line for line in text.splitlines() if line.startswith("# HELP")]
    ours = [line for line in helps if "_created" not in line]
    assert len(ours) >= 35
    assert all(line.endswith(".") for line in ours)
    assert "process_resident_memory_bytes" in text


@given(
    st.lists(
        st.tuples(st.booleans(), st.integers(0, 50), st.integers(0, 5)), max_size=20
    )
)
def test_totals_add_up_over_scans(steps):
    registry = CollectorRegistry()
    metrics = Metrics(registry, ("late",))
    scan, received, lost, all_received, all_lost = 0, 0, 0, 0, 0
    for new_scan, more, more_lost in steps:
        if new_scan:
            scan, received, lost = scan + 1, 0, 0
        received, lost = received + more, lost + more_lost
        all_received, all_lost = all_received + more, all_lost + more_lost
        counts = FrameCounts(received=received, lost={"late": lost})
        metrics.observe_frames(f"s{scan}", counts)
    assert value(registry, "frames_received_total") == all_received
    assert value(registry, "frames_lost_total", reason="late") == all_lost


def test_frames_that_were_missing_and_came_are_not_lost_twice(registry):
    metrics = Metrics(registry, ("missing",))
    for missing in (0, 9, 4, 7, 10):
        metrics.observe_frames("a", FrameCounts(lost={"missing": missing}))
    assert value(registry, "frames_lost_total", reason="missing") == 10


def test_a_receiver_that_was_started_again_counts_on(registry):
    metrics = Metrics(registry)
    for epoch, total in [("0", 5), ("0", 8), ("1", 2)]:
        metrics.observe_refused("det", {"on_wire": total}, epoch)
        metrics.observe_traffic(100 * total, total, epoch)
    labels = {"stream": "det", "reason": "on_wire"}
    assert value(registry, "messages_lost_total", **labels) == 10
    assert value(registry, "received_bytes_total") == 1000
    assert value(registry, "samples_received_total") == 8


def test_those_turned_away_are_counted_on(registry):
    metrics = Metrics(registry)
    for total in (0, 2, 2, 5):
        metrics.observe_turned_away(total)
    assert value(registry, "handshakes_refused_total") == 5


def test_what_is_in_no_closed_set_is_counted_as_other(registry):
    metrics = Metrics(registry, ("late",), ("files",))
    metrics.observe_frames("s", FrameCounts(lost={"late": 1, "new": 2, "newer": 3}))
    for reason in (*CLOSE_REASONS, "eaten"):
        metrics.observe_scan_end(reason)
    metrics.observe_sink(SinkStats("mystery", 1, 0, 4, 0, 0.0))
    assert value(registry, "frames_lost_total", reason="late") == 1
    assert value(registry, "frames_lost_total", reason="other") == 5
    assert value(registry, "frames_lost_total", reason="new") is None
    assert value(registry, "scans_total", reason="superseded") == 1
    assert value(registry, "scans_total", reason="other") == 1
    assert value(registry, "sink_failures_total", sink="other") == 4


@given(st.lists(st.text(max_size=8), min_size=1, max_size=6), st.text(max_size=8))
def test_nothing_that_comes_in_becomes_a_label(words, run):
    registry = CollectorRegistry()
    metrics = Metrics(registry, ("late",), ("files",))
    before = series(registry)
    for word in words:
        counts = FrameCounts(received=1, lost={word: 1})
        metrics.observe_frames(run, counts)
        metrics.observe_scan_end(word)
        metrics.observe_sink(SinkStats(word, 1, 0, 0, 0, 0.0))
        metrics.observe_quality(word, Quality(), 1)
        metrics.observe_store(word, 0.5, 1)
        metrics.observe_phase(word)
        metrics.observe_traffic(1, 1, word)
        metrics.observe_refused("det", dict.fromkeys(REFUSALS, 1), word)
    metrics.observe_encoder(dict.fromkeys(ENCODER_LOSSES, 1))
    metrics.observe_queues(dict.fromkeys(QUEUES, 0.5), 1)
    for stream in STREAMS:
        metrics.observe_stream(stream, connected=True, arrived_s=1.0)
    assert series(registry) == before


def test_engine_and_sinks(registry):
    metrics = Metrics(registry, (), ("files",))
    metrics.observe_step(0.03)
    metrics.observe_step(0.3)
    quality = Quality(
        loss=2.0,
        held_out_error=0.1,
        flat_error=0.4,
        noise_error=0.05,
        covered=0.6,
        resolution_m=2e-8,
        converged=True,
    )
    metrics.observe_quality("a", quality, rolled_back=3)
    metrics.observe_quality("a", quality, rolled_back=3)
    metrics.observe_quality("b", quality, rolled_back=5)
    metrics.observe_queues({"ring": 0.25, "waiting": 0.1, "backlog": 0.0}, 7)
    metrics.observe_store("a", 0.5, 3)
    metrics.observe_store("b", 0.5, 2)
    metrics.observe_memory(3e9, 8e9)
    metrics.observe_position_wait(0.3)
    metrics.observe_store_lag(0.4)
    metrics.observe_pixel_lag(0.7)
    metrics.observe_ignored(4)
    metrics.observe_sink(SinkStats("files", 5, 2, 1, 1, 0.5))
    metrics.observe_sink(SinkStats("files", 7, 2, 1, 1, 0.0))
    for name, expected in {
        "step_seconds_count": 2,
        "loss": 2.0,
        "held_out_error_ratio": 0.1,
        "flat_error_ratio": 0.4,
        "noise_error_ratio": 0.05,
        "covered_ratio": 0.6,
        "resolution_metres": 2e-8,
        "converged": 1,
        "steps_rolled_back_total": 8,
        "store_fill_ratio": 0.5,
        "store_evicted_total": 5,
        "device_memory_used_bytes": 3e9,
        "device_memory_total_bytes": 8e9,
        "lead_frames": 7,
        "position_wait_seconds_sum": 0.3,
        "store_lag_seconds_sum": 0.4,
        "pixel_lag_seconds_sum": 0.7,
        "exposures_ignored_total": 4,
    }.items():
        assert value(registry, name) == expected, name
    assert value(registry, "step_seconds_bucket", le="0.05") == 1
    assert value(registry, "queue_fill_ratio", queue="ring") == 0.25
    assert value(registry, "sink_delivered_total", sink="files") == 7
    assert value(registry, "sink_skipped_total", sink="files") == 2
    assert value(registry, "sink_in_flight_seconds", sink="files") == 0


@pytest.mark.parametrize("phase", PHASES)
def test_one_phase_at_a_time(registry, phase):
    metrics = Metrics(registry)
    metrics.observe_phase("live")
    metrics.observe_phase(phase)
    on = [name for name in PHASES if value(registry, "phase", phase=name)]
    assert on == [phase]


def test_a_stalled_stream_ages_between_observations(registry):
    now = [100.0]
    metrics = Metrics(registry, clock=lambda: now[0])
    metrics.observe_stream("pos", connected=False, arrived_s=0)
    assert math.isnan(value(registry, "last_message_age_seconds", stream="pos"))
    assert value(registry, "connected", stream="pos") == 0
    metrics.observe_stream("pos", connected=True, arrived_s=99.5)
    assert value(registry, "last_message_age_seconds", stream="pos") == 0.5
    assert value(registry, "connected", stream="pos") == 1
    now[0] = 103.0
    assert value(registry, "last_message_age_seconds", stream="pos") == 3.5


def test_each_fault_is_a_series_from_the_start(registry):
    metrics = Metrics(registry)
    assert {value(registry, "health_findings", fault=f) for f in FAULTS} == {0}
    lag = Finding("positions lag", "by 2", 0.9)
    unknown = Finding("never heard of", "", 0.9)
    before = series(registry)
    metrics.observe_health([lag, unknown])
    assert value(registry, "health_findings", fault="positions lag") == 1
    assert series(registry) == before
    metrics.observe_health([])
    assert value(registry, "health_findings", fault="positions lag") == 0


def test_a_checkpoint_s_age_grows_by_itself(registry):
    now_s = [100.0]
    metrics = Metrics(registry, clock=lambda: now_s[0])
    assert math.isnan(value(registry, "checkpoint_age_seconds"))
    metrics.observe_checkpoint(98.0, 0.5)
    now_s[0] = 105.0
    assert value(registry, "checkpoint_age_seconds") == 7.0
    assert value(registry, "checkpoint_seconds") == 0.5
    metrics.observe_checkpoint(None, math.nan)
    assert math.isnan(value(registry, "checkpoint_age_seconds"))
