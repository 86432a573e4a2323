import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ptystream.errors import ConfigError
from ptystream.sim.sample import canvas_around, canvas_of, transmission

POINTS = arrays(
    float, st.tuples(st.integers(1, 5), st.just(2)), elements=st.floats(-1e-5, 1e-5)
)


@given(POINTS, st.sampled_from([16, 64]), st.integers(4, 9))
def test_holds_every_window_with_its_margin(points_m, window, margin):
    canvas = canvas_around(points_m, (2e-8, 3e-8), window, margin)
    corners = canvas.to_pixels(points_m) - window / 2
    assert corners.min() >= margin - 1e-6
    assert np.all(corners + window + margin <= np.array(canvas.shape) + 1e-6)


def test_pixel_zero_sits_at_the_origin():
    canvas = canvas_around(np.array([[1e-6, -2e-6]]), (1e-8, 2e-8), 16, 4)
    assert np.allclose(canvas.to_pixels(np.array(canvas.origin_m)), 0)
    assert np.allclose(canvas.to_pixels(np.array([1e-6, -2e-6])), (12, 12))


def test_refuses_a_canvas_beyond_memory():
    with pytest.raises(ConfigError, match=r"2\*\*28"):
        canvas_around(np.array([[0, 0], [1, 1]]), (1e-8, 1e-8), 16, 4)


def test_maps_pictures_to_the_ranges():
    ramp = np.linspace(0, 1, 5)[None]
    flipped = ramp[:, ::-1]
    obj = transmission(ramp, flipped, amplitude=(0.5, 0.9), phase_rad=(-1, 2))
    assert np.allclose(np.abs(obj), [[0.5, 0.6, 0.7, 0.8, 0.9]])
    assert np.allclose(np.angle(obj), [[2, 1.25, 0.5, -0.25, -1]])


@pytest.mark.parametrize("offset_m", [0.0, 3.3e-9])
def test_a_canvas_of_a_given_shape_has_the_scan_in_its_middle(offset_m):
    pixel = (1e-8, 2e-8)
    points = np.array([[0, 0], [30e-8, 80e-8]]) + offset_m
    canvas = canvas_of((55, 80), points, pixel, window=16)
    corners = canvas.to_pixels(points) - 8
    assert np.allclose(corners, [[4, 12], [34, 52]])
    assert canvas.shape == (55, 80)


def test_a_canvas_that_is_just_large_enough_will_do():
    points = np.array([[0, 0], [30e-8, 30e-8]])
    assert canvas_of((46, 46), points, (1e-8, 1e-8), 16).shape == (46, 46)
    with pytest.raises(ConfigError, match=r"\(45, 46\): expected at least \(46, 46\)"):
        canvas_of((45, 46), points, (1e-8, 1e-8), 16)


def test_refuses_a_given_canvas_beyond_memory():
    with pytest.raises(ConfigError, match=r"2\*\*28"):
        canvas_of((20_000, 20_000), np.zeros((1, 2)), (1e-8, 1e-8), 16)
