import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptystream.sim.scan import fermat, jittered, raster, shaken, standing, step_of

STEP_M, CENTRE_M = (2e-7, 3e-7), (5e-6, -3e-6)


@pytest.mark.parametrize(("overlap", "pixels"), [(0.95, 3), (0.5, 32), (0.3, 45)])
def test_overlap_gives_the_steps_of_the_protocol(overlap, pixels):
    assert step_of(overlap, 64, 1e-8) == pytest.approx(pixels * 1e-8)


def test_the_stage_moves_even_at_full_overlap():
    assert step_of(0.999, 64, 1e-8) == 1e-8


@given(st.integers(1, 9), st.integers(1, 9), st.booleans())
def test_raster_visits_each_grid_point_once(rows, columns, snake):
    track = raster((rows, columns), STEP_M, CENTRE_M, snake=snake)
    steps = np.rint(
        (track.nominal_m - track.nominal_m.min(axis=0)) / np.array(STEP_M)
    ).astype(int)
    assert {tuple(s) for s in steps} == set(np.ndindex(rows, columns))
    assert np.array_equal(steps[:, 0], track.line)
    middle = (track.nominal_m.min(axis=0) + track.nominal_m.max(axis=0)) / 2
    assert np.allclose(middle, CENTRE_M)


def test_a_snake_turns_and_a_fly_back_does_not():
    snake = raster((2, 3), STEP_M, CENTRE_M, snake=True)
    x = np.rint((snake.nominal_m[:, 1] - CENTRE_M[1]) / STEP_M[1])
    assert x.tolist() == [-1, 0, 1, 1, 0, -1]
    assert np.sign(snake.span_m[:, 1]).tolist() == [1, 1, 1, -1, -1, -1]
    back = raster((2, 3), STEP_M, CENTRE_M, snake=False)
    x = np.rint((back.nominal_m[:, 1] - CENTRE_M[1]) / STEP_M[1])
    assert x.tolist() == [-1, 0, 1, -1, 0, 1]


@given(st.integers(1, 5), st.integers(1, 64))
def test_an_exposure_is_centred_on_its_mean(rows, points):
    track = jittered(
        raster((rows, 4), STEP_M, CENTRE_M, snake=True), 1e-8, np.random.default_rng(0)
    )
    way = track.during(points)
    assert np.allclose(way.mean(axis=1), track.mean_m, atol=1e-15)
    assert np.all(np.abs(np.ptp(way[..., 1], axis=1)) < STEP_M[1])


def test_exposures_of_a_flying_line_touch():
    track = raster((1, 4), STEP_M, CENTRE_M, snake=True)
    x = track.during(10)[..., 1].ravel()
    assert np.allclose(np.diff(x), STEP_M[1] / 10)


def test_a_standing_stage_has_no_span():
    track = standing(raster((2, 2), STEP_M, CENTRE_M, snake=True))
    assert np.ptp(track.during(5), axis=1).max() == 0


def test_jitter_moves_the_truth_and_not_the_plan():
    track = raster((40, 40), STEP_M, CENTRE_M, snake=True)
    moved = jittered(track, 5e-9, np.random.default_rng(1))
    assert np.array_equal(moved.nominal_m, track.nominal_m)
    assert (moved.mean_m - track.nominal_m).std() == pytest.approx(5e-9, rel=0.05)


def test_a_spiral_is_as_dense_as_a_raster():
    track = fermat(2000, (1e-7, 1e-7), (0, 0))
    area = np.pi * np.linalg.norm(track.nominal_m, axis=1).max() ** 2
    assert area / 2000 == pytest.approx(1e-14, rel=0.01)
    distances = np.linalg.norm(track.nominal_m[:400, None] - track.nominal_m, axis=2)
    nearest = np.where(distances == 0, np.inf, distances).min(axis=1)
    assert nearest.min() > 0.5e-7


def test_lines_pause():
    track = raster((3, 2), STEP_M, CENTRE_M, snake=True)
    ends = track.end_s(0.01, 0.5)
    assert ends.tolist() == pytest.approx([0.01, 0.02, 0.53, 0.54, 1.05, 1.06])


def test_a_shake_moves_every_point_and_the_plan_with_it():
    plain = raster((20, 20), (3.0, 5.0), (1.0, 2.0), snake=False)
    moved = shaken(plain, (0.5, 2.0), np.random.default_rng(0))
    apart = moved.nominal_m - plain.nominal_m
    assert (np.abs(apart) <= (0.5, 2.0)).all()
    # Uniform: the deviation is the reach over √3, good to 8 % for 400 points.
    assert apart.std(axis=0) == pytest.approx(np.array([0.5, 2.0]) / 3**0.5, rel=0.08)
    assert np.array_equal(moved.mean_m, moved.nominal_m)
    assert np.array_equal(moved.span_m, plain.span_m)
