import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest

from ptystream.metrics import Metrics
from ptystream.publish.runner import SinkStats
from ptystream.publish.sink import FrameCounts
from ptystream.recon.snapshot import Quality


@pytest.fixture
def registry():
    return CollectorRegistry()


def value(registry, name, **labels):
    return registry.get_sample_value(f"ptystream_{name}", labels)


def test_every_series_exists_before_the_first_event(registry):
    Metrics(registry, ("ring_full",), ("files",), {"commit": "abc"})
    for name, labels in [
        ("frames_received_total", {}),
        ("frames_paired_total", {}),
        ("frames_lost_total", {"reason": "ring_full"}),
        ("frames_lost_total", {"reason": "other"}),
        ("scans_total", {"reason": "complete"}),
        ("scans_total", {"reason": "timed out"}),
        ("sink_failures_total", {"sink": "files"}),
        ("sink_refused_runs_total", {"sink": "files"}),
        ("step_seconds_count", {}),
        ("steps_rolled_back_total", {}),
    ]:
        assert value(registry, name, **labels) == 0, name
    text = generate_latest(registry).decode()
    assert 'ptystream_build_info{commit="abc",version="' in text
    helps = [line for line in text.splitlines() if line.startswith("# HELP")]
    ours = [line for line in helps if "_created" not in line]
    assert len(ours) >= 20
    assert all(line.endswith(".") for line in ours)


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


def test_what_is_in_no_closed_set_is_counted_as_other(registry):
    metrics = Metrics(registry, ("late",), ("files",))
    metrics.observe_frames("s", FrameCounts(lost={"late": 1, "new": 2, "newer": 3}))
    metrics.observe_scan_end("complete")
    metrics.observe_scan_end("eaten")
    metrics.observe_sink(SinkStats("mystery", 1, 0, 4, 0, 0.0))
    assert value(registry, "frames_lost_total", reason="late") == 1
    assert value(registry, "frames_lost_total", reason="other") == 5
    assert value(registry, "frames_lost_total", reason="new") is None
    assert value(registry, "scans_total", reason="complete") == 1
    assert value(registry, "scans_total", reason="other") == 1
    assert value(registry, "sink_failures_total", sink="other") == 4


def test_engine_and_sinks(registry):
    metrics = Metrics(registry, (), ("files",))
    metrics.observe_step(0.03)
    metrics.observe_step(0.3)
    quality = Quality(loss=2.0, held_out_error=0.1, flat_error=0.4, covered=0.6)
    metrics.observe_quality("a", quality, rolled_back=3)
    metrics.observe_quality("a", quality, rolled_back=3)
    metrics.observe_quality("b", quality, rolled_back=5)
    metrics.observe_buffers(0.25, 0.5)
    metrics.observe_position_wait(0.3)
    metrics.observe_store_lag(0.4)
    metrics.observe_sink(SinkStats("files", 5, 2, 1, 1, 0.5))
    metrics.observe_sink(SinkStats("files", 7, 2, 1, 1, 0.0))
    assert value(registry, "step_seconds_count") == 2
    assert value(registry, "step_seconds_bucket", le="0.05") == 1
    assert value(registry, "loss") == 2.0
    assert value(registry, "held_out_error_ratio") == 0.1
    assert value(registry, "flat_error_ratio") == 0.4
    assert value(registry, "covered_ratio") == 0.6
    assert value(registry, "steps_rolled_back_total") == 8
    assert value(registry, "ring_fill_ratio") == 0.25
    assert value(registry, "store_fill_ratio") == 0.5
    assert value(registry, "position_wait_seconds_sum") == 0.3
    assert value(registry, "store_lag_seconds_sum") == 0.4
    assert value(registry, "sink_delivered_total", sink="files") == 7
    assert value(registry, "sink_skipped_total", sink="files") == 2
    assert value(registry, "sink_in_flight_seconds", sink="files") == 0


def test_a_stalled_stream_ages_between_observations(registry):
    now = [100.0]
    metrics = Metrics(registry, clock=lambda: now[0])
    assert math.isnan(value(registry, "last_message_age_seconds", stream="pos"))
    metrics.observe_message("pos", 99.5)
    assert value(registry, "last_message_age_seconds", stream="pos") == 0.5
    now[0] = 103.0
    assert value(registry, "last_message_age_seconds", stream="pos") == 3.5
    metrics.observe_message("gossip", 1.0)
    assert value(registry, "last_message_age_seconds", stream="gossip") is None
