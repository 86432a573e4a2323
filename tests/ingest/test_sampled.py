from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptystream.ingest.encoders import Axis, EncoderTable
from ptystream.ingest.sampled import PerFrame, SampledPositions
from ptystream.wire.columns import Columns
from ptystream.wire.messages import Frame, Heartbeat, Samples, ScanEnd, ScanStart

PERIOD_S = 1e-2
START, DET_START = ScanStart("p", "pos"), ScanStart("d", "det")


def sampled(per_frame: PerFrame = "auto", **options: Any) -> SampledPositions:
    table = EncoderTable(Axis("Y", 1e-9), Axis("X", 1e-9))
    return SampledPositions(table, per_frame, **options)


def rows(first: int, n: int, ratio: int = 10, *, times: bool = True) -> Columns:
    k = np.arange(first, first + n, dtype=float)
    columns = {"Y.Value": k, "X.Value": -k}
    if times:
        columns["PCAP.TS_TRIG.Value"] = k * PERIOD_S / ratio
    return Columns("p", first, columns)


def frame(index: int) -> Frame:
    return Frame("d", index, np.zeros((1, 1), "u1"), int(1 + index * PERIOD_S * 1e9))


def numbers(messages: list[Any]) -> list[int]:
    """The numbers of the samples, each checked to lie where it should."""
    got: list[int] = []
    for m in messages:
        if isinstance(m, Samples):
            at = range(m.first, m.first + len(m.position_m))
            np.testing.assert_allclose(m.position_m[:, 0], np.array(at) * 1e-9)
            got += at
    return got


def test_a_known_number_passes_at_once():
    positions = sampled(10)
    assert positions.take(START) == [START]
    (samples,) = positions.take(rows(0, 41), 12.5)
    assert isinstance(samples, Samples)
    assert (samples.scan, samples.per_frame, samples.arrived_s) == ("p", 10, 12.5)
    assert numbers([samples]) == list(range(41))


def test_other_messages_pass():
    positions = SampledPositions()
    samples = Samples("a", 0, 4, np.zeros((3, 2)))
    beat = Heartbeat("a", "pos")
    assert positions.take(samples) == [samples]
    assert positions.take(beat) == [beat]
    assert not positions.listens


@given(ahead=st.integers(0, 40), batch=st.integers(1, 60), ratio=st.integers(1, 12))
def test_samples_wait_until_their_number_is_told_and_all_come_in_order(
    ahead, batch, ratio
):
    positions = sampled()
    positions.observe(DET_START)
    got = positions.take(START)
    total, seen = 100 * ratio, -ahead
    for first in range(0, total, batch):
        n = min(batch, total - first)
        got += positions.take(rows(first, n, ratio))
        while seen < (first + n) // ratio - ahead:
            positions.observe(frame(max(0, seen)))
            seen += 1
        got += positions.release()
    for index in range(100):
        positions.observe(frame(index))
    end = ScanEnd("p", "pos", "complete", total)
    got += positions.take(end) + positions.release()
    assert numbers(got) == list(range(total))
    assert {m.per_frame for m in got if isinstance(m, Samples)} == {ratio}
    assert got[-1] == end
    assert positions.stats().per_frame == ratio


def test_without_times_the_totals_tell_at_the_end():
    positions = sampled()
    positions.observe(DET_START)
    positions.take(START)
    assert positions.take(rows(0, 30, times=False)) == []
    end = ScanEnd("p", "pos", "complete", 30)
    assert positions.take(end) == []  # it must not overtake them
    assert positions.stats().waiting == 30
    positions.observe(ScanEnd("d", "det", "complete", 10))
    samples, last = positions.release()
    assert isinstance(samples, Samples)
    assert (samples.per_frame, last) == (3, end)
    assert positions.stats().waiting == 0


def test_what_is_no_whole_number_is_refused_with_the_reason(caplog):
    positions = sampled()
    positions.take(START)
    positions.take(rows(0, 31, times=False))
    end = ScanEnd("p", "pos", "complete", 31)
    positions.take(end)
    positions.observe(ScanEnd("d", "det", "complete", 10))
    assert positions.release() == [end]
    stats = positions.stats()
    assert stats.refused == 31
    assert "31 samples for 10 frames" in stats.reason
    assert "positions.per_frame" in stats.reason
    assert stats.reason in caplog.text


def test_after_a_refusal_the_rest_of_the_scan_is_refused_and_the_next_is_not():
    positions = sampled()
    positions.observe(DET_START)
    positions.take(START)
    for index in range(40):
        positions.observe(frame(index))
    k = np.arange(400.0)
    loose = Columns(
        "p", 0, {"Y.Value": k, "X.Value": k, "PCAP.TS_TRIG.Value": k * PERIOD_S / 3.5}
    )
    assert positions.take(loose) == []
    assert positions.take(rows(400, 10)) == []
    assert positions.stats().refused == 410
    assert "3.500 samples" in positions.stats().reason
    positions.observe(ScanEnd("d", "det", "complete", 40))
    positions.observe(DET_START)
    positions.take(START)
    for index in range(40):
        positions.observe(frame(index))
    assert numbers(positions.take(rows(0, 400))) == list(range(400))
    assert positions.stats().reason == ""


def test_what_waits_is_bounded_and_the_oldest_makes_room():
    positions = sampled(max_waiting=50)
    positions.take(START)
    for first in range(0, 100, 20):
        assert positions.take(rows(first, 20, times=False)) == []
    stats = positions.stats()
    assert (stats.waiting, stats.overflow) == (40, 60)
    end = ScanEnd("p", "pos", "complete", 100)
    positions.take(end)
    positions.observe(ScanEnd("d", "det", "complete", 10))
    assert numbers(positions.release()) == list(range(60, 100))


def test_a_scan_that_begins_before_the_last_was_known_refuses_that():
    positions = sampled()
    positions.take(START)
    end = ScanEnd("p", "pos", "complete", 20)
    positions.take(rows(0, 20, times=False))
    positions.take(end)
    assert positions.take(START) == [end, START]
    assert positions.stats().refused == 20


def test_gates_are_one_a_frame():
    positions = sampled()
    positions.take(START)
    k = np.arange(5.0)
    gates = {f"{axis}.{c}": k for axis in "YX" for c in ("Mean", "Diff")}
    (samples,) = positions.take(Columns("p", 0, gates))
    assert isinstance(samples, Samples)
    assert samples.per_frame == 1
    np.testing.assert_allclose(samples.start_m[:, 0], k * 0.5e-9)
    np.testing.assert_allclose(samples.end_m[:, 1], k * 1.5e-9)


def test_lost_messages_are_counted_as_lost_samples():
    positions = sampled(10)
    positions.take(START)
    positions.take(rows(0, 20))
    positions.take(rows(50, 20))
    assert positions.stats().lost == 30
    positions.take(ScanEnd("p", "pos", "complete", 100))
    assert positions.stats().lost == 60


def test_samples_that_come_as_such_are_counted_like_columns():
    positions = SampledPositions()
    positions.take(START)
    for first in (0, 50):
        positions.take(Samples("p", first, 1, np.zeros((20, 2))))
    assert positions.stats().lost == 30
    positions.take(ScanEnd("p", "pos", "complete", 70))
    assert positions.stats().lost == 30


def test_who_joins_late_has_lost_nothing():
    positions = sampled(10)
    positions.take(ScanStart("p", "pos", again=True))
    positions.take(rows(500, 20))
    assert positions.stats().lost == 0


def test_a_scan_that_is_joined_late_is_not_judged_by_the_last_one():
    positions = sampled()
    for number, ratio in enumerate((10, 4)):
        late = number > 0
        positions.observe(ScanStart(f"d{number}", "det", again=late))
        positions.take(ScanStart(f"p{number}", "pos", again=late))
        for index in range(40):
            positions.observe(frame(index))
        samples, *_ = positions.take(rows(0, 40 * ratio, ratio))
        assert isinstance(samples, Samples)
        assert samples.per_frame == ratio


def test_a_scan_that_goes_on_after_a_lost_connection_is_the_same():
    positions = sampled(10)
    positions.take(START)
    positions.take(rows(0, 20))
    positions.take(ScanStart("p", "pos", again=True))
    positions.take(rows(30, 20))
    assert positions.stats().lost == 10


def test_rows_of_empty_gates_are_left_out_and_the_others_keep_their_numbers():
    positions = sampled(1)
    broken = rows(0, 10)
    broken.columns["X.Value"][[0, 4, 5]] = np.nan
    got = positions.take(broken)
    assert numbers(got) == [1, 2, 3, 6, 7, 8, 9]
    assert positions.stats().unusable == 3


@pytest.mark.parametrize("table", [None, EncoderTable(Axis("Z", 1.0), Axis("X", 1.0))])
def test_columns_that_no_setting_names_are_counted_and_named(table):
    positions = SampledPositions(table, 1)
    assert positions.take(rows(0, 5)) == []
    assert positions.stats().unusable == 5
    assert "X.Value" in positions.stats().reason


@pytest.mark.parametrize(("told", "capture"), [(1, "Value"), ("auto", "Mean")])
def test_totals_against_the_settings_or_the_gates_are_told(told, capture):
    positions = sampled(told)
    positions.take(START)
    k = np.arange(100.0)
    assert positions.take(Columns("p", 0, {f"{axis}.{capture}": k for axis in "YX"}))
    positions.take(ScanEnd("p", "pos", "complete", 100))
    positions.observe(ScanEnd("d", "det", "complete", 10))
    said = "taken as 1 samples a frame, but the totals say 10"
    assert positions.stats().reason == said


def test_totals_against_the_times_are_told():
    positions = sampled()
    positions.observe(DET_START)
    positions.take(START)
    for index in range(40):
        positions.observe(frame(index))
    assert positions.take(rows(0, 400))
    positions.take(ScanEnd("p", "pos", "complete", 400))
    positions.observe(ScanEnd("d", "det", "complete", 80))
    assert "the totals say 5" in positions.stats().reason
