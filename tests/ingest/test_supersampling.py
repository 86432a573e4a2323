import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ptystream.ingest.supersampling import RatioInference


def frame_starts(lines: int, points: int, period_s: float, turn_s: float) -> np.ndarray:
    line = np.arange(points) * period_s
    return np.concatenate(
        [line + k * (points * period_s + turn_s) for k in range(lines)]
    )


def sample_times(starts: np.ndarray, ratio: int, exposure_s: float) -> np.ndarray:
    """As a box takes them: so many inside each exposure, none in the dead time."""
    inside = (np.arange(ratio) + 0.5) / ratio * exposure_s
    return (starts[:, None] + inside).ravel()


def told_frames(inference: RatioInference, starts: np.ndarray, clock_s: float = 7.0):
    for index, start in enumerate(starts):
        inference.frame(index, int((start + clock_s) * 1e9))


@given(
    ratio=st.integers(1, 40),
    points=st.integers(8, 40),
    dead=st.floats(0, 0.4),
    turn=st.floats(0, 20),
    batch=st.integers(3, 100),
    lost=st.sets(st.integers(0, 400), max_size=5),
    frames_first=st.booleans(),
)
def test_the_ratio_is_told_by_times_and_never_a_wrong_one(
    ratio, points, dead, turn, batch, lost, frames_first
):
    starts = frame_starts(6, points, 1e-2, turn * 1e-2)
    times = sample_times(starts, ratio, 1e-2 * (1 - dead))
    inference = RatioInference()
    if frames_first:
        told_frames(inference, starts)
    for first in range(0, len(times), batch):
        if first // batch not in lost:
            inference.samples(first, times[first : first + batch] + 100)
        assert inference.verdict().per_frame in (0, ratio)
    if not frames_first:
        told_frames(inference, starts)
    assert inference.verdict().per_frame in (0, ratio)
    if not lost:
        assert inference.verdict().per_frame == ratio


@given(
    ratio=st.floats(0.3, 30),
    samples=st.integers(200, 2000),
)
def test_a_box_that_runs_by_itself_is_refused_with_the_number(ratio, samples):
    assume(0.15 < ratio % 1 < 0.85)
    inference = RatioInference()
    told_frames(inference, np.arange(400) * 1e-3)
    inference.samples(0, np.arange(samples) * 1e-3 / ratio)
    verdict = inference.verdict()
    assert verdict.per_frame == 0
    if samples / ratio > 20:
        assert verdict.final
        assert float(verdict.reason.split()[0]) == pytest.approx(ratio, abs=2e-3)


def test_what_was_lost_is_known_by_its_numbers():
    starts = frame_starts(3, 50, 1e-2, 0.1)
    times = sample_times(starts, 10, 9e-3)
    inference = RatioInference()
    for index in range(0, 150, 2):  # every second frame
        inference.frame(index, int(starts[index] * 1e9) + 1)
    for first in range(0, 1500, 60):  # every second batch
        inference.samples(first, times[first : first + 30])
    assert inference.verdict().per_frame in (0, 10)


def counted(frames: int | None, samples: int | None) -> RatioInference:
    inference = RatioInference()
    inference.frames_end(frames)
    inference.samples_end(samples)
    return inference


@given(st.integers(1, 1000), st.integers(1, 100))
def test_totals_tell_at_the_end(frames, ratio):
    verdict = counted(frames, frames * ratio).verdict()
    assert (verdict.per_frame, verdict.final) == (ratio, True)


def test_totals_that_are_no_multiple_are_refused_with_the_numbers():
    verdict = counted(120, 1234).verdict()
    assert (verdict.per_frame, verdict.final) == (0, True)
    assert verdict.reason == (
        "1234 samples for 120 frames are 10.283 a frame, expected a whole number"
    )


@pytest.mark.parametrize(("frames", "samples"), [(None, 100), (100, None), (0, 0)])
def test_without_totals_it_is_refused_at_the_end(frames, samples):
    verdict = counted(frames, samples).verdict()
    assert (verdict.per_frame, verdict.final) == (0, True)
    assert "no totals" in verdict.reason


def test_nothing_is_said_before_both_have_ended():
    inference = RatioInference()
    inference.samples_end(100)
    assert not inference.verdict().final


def test_an_unsteady_pace_tells_nothing():
    inference = RatioInference()
    rng = np.random.default_rng(0)
    told_frames(inference, np.cumsum(rng.uniform(0.5e-2, 1.5e-2, 200)))
    inference.samples(0, np.arange(1000) * 1e-3)
    assert inference.verdict().per_frame == 0
    assert "steady" in inference.verdict().reason


def test_frames_without_times_tell_nothing():
    inference = RatioInference()
    for index in range(100):
        inference.frame(index, 0)
    inference.samples(0, np.arange(1000) * 1e-3)
    assert not inference.verdict().final


def test_totals_against_the_times_are_told():
    inference = RatioInference()
    starts = np.arange(100) * 1e-2
    told_frames(inference, starts)
    inference.samples(0, sample_times(starts, 10, 1e-2))
    assert inference.verdict().per_frame == 10
    inference.frames_end(100)
    inference.samples_end(1000)
    assert inference.contradiction(10) == ""
    inference.samples_end(500)
    said = "taken as 10 samples a frame, but the totals say 5"
    assert inference.contradiction(10) == said


@pytest.mark.parametrize("box_first", [False, True])
def test_each_scan_is_judged_by_its_own_frames(box_first):
    inference = RatioInference()
    for ratio, period_s in (10, 1e-2), (3, 5e-2), (10, 2e-3):
        begin = [inference.samples_begin, inference.frames_begin]
        for step in begin if box_first else begin[::-1]:
            step()
        starts = np.arange(100) * period_s
        inference.samples(0, sample_times(starts, ratio, period_s)[:30])
        assert inference.verdict().per_frame == 0
        told_frames(inference, starts)
        inference.samples(30, sample_times(starts, ratio, period_s)[30:])
        assert inference.verdict().per_frame == ratio
        inference.frames_end(100)
        inference.samples_end(100 * ratio)


def test_at_the_end_times_tell_where_there_are_no_totals():
    starts = frame_starts(6, 20, 1e-2, 0.05)
    inference = RatioInference()
    told_frames(inference, starts)
    inference.samples(0, sample_times(starts, 5, 8e-3))
    inference.frames_end(None)
    inference.samples_end(None)
    assert inference.verdict().per_frame == 5
