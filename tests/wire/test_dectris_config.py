"""What a start says of a series, from settings that may be nonsense."""

import pytest

from ptystream.wire.dectris_config import start_of

SIDES = {"y_pixels_in_detector": 10, "x_pixels_in_detector": 12}


def test_a_shape_needs_both_sides():
    assert start_of("s", 1, SIDES).shape == (10, 12)
    for name in SIDES:
        assert start_of("s", 1, {**SIDES, name: None}).shape is None


@pytest.mark.parametrize(
    ("bits", "dtype"), [(8, "|u1"), (16, "<u2"), (32, "<u4"), (24, None), (None, None)]
)
def test_the_depth_of_the_images_is_their_type(bits, dtype):
    assert start_of("s", 1, {"bit_depth_image": bits}).dtype == dtype


@pytest.mark.parametrize(
    ("longest", "longer"),
    [
        ("x" * 2047, "x" * 2048),  # 4 bytes a character, and 4
        ([0.5] * 512, [0.5] * 513),
        ([True] * 512, [True] * 513),
        ([[[[[[[[1]]]]]]]], [[[[[[[[[1]]]]]]]]]),
        ({"a": -(2**63) + 1}, {"a": -(2**63)}),
        ({"a": None}, {1: None}),
        ({"a": 1e308}, {"a": float("inf")}),
        ({"a" * 2000: 1}, {"a" * 2047: 1}),
    ],
)
def test_what_the_user_says_is_kept_if_it_is_small(longest, longer):
    assert start_of("s", 1, {}, longest).meta["user_data"] == longest
    meta = start_of("s", 1, {}, longer).meta
    assert meta["user_data_left_out"] is True
    assert "user_data" not in meta
