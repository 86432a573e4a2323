import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptystream.errors import DecodeError
from ptystream.publish import view
from ptystream.publish.images import decode_picture, encode_picture
from ptystream.publish.preview import make_preview


def named(picture):
    return {image.name: image for image in picture.images}


@pytest.mark.parametrize("depth", ["u1", "f4"])
def test_what_is_encoded_is_decoded(snapshot, depth):
    sent = make_preview(snapshot(), depth=depth)
    got = decode_picture(encode_picture(sent, {"seq": 5}))
    assert got.about["seq"] == 5
    for a, b in zip(sent.images, got.images, strict=True):
        assert a.name == b.name
        assert (a.low, a.high, a.pixel_m, a.origin_m) == (
            b.low,
            b.high,
            b.pixel_m,
            b.origin_m,
        )
        np.testing.assert_array_equal(a.pixels, b.pixels)


def test_bytes_stand_for_values_within_half_a_step(snapshot):
    fine = named(make_preview(snapshot(), depth="f4"))
    coarse = named(make_preview(snapshot(), depth="u1"))
    for name, image in coarse.items():
        step = (image.high - image.low) / 255
        np.testing.assert_allclose(
            image.values(), fine[name].values(), atol=0.51 * step
        )


def test_a_large_object_is_shrunk_and_stays_in_place(snapshot):
    big = snapshot((1, 101, 230))
    image = named(make_preview(big, max_px=64, depth="f4"))["object_amplitude"]
    assert image.pixels.shape == (26, 58)
    assert image.pixel_m == pytest.approx((40e-9, 48e-9))
    assert image.origin_m == pytest.approx((-1e-6 + 15e-9, 2e-6 + 18e-9))
    want = np.abs(big.object[0, :4, :4]).mean()
    assert image.pixels[0, 0] == pytest.approx(want, rel=1e-4)


def test_slices_are_multiplied_and_broken_pixels_do_not_spread(snapshot):
    two = snapshot((2, 40, 56))
    two.object[0, 3, 4] = np.nan
    image = named(make_preview(two, depth="f4"))["object_amplitude"]
    assert np.isfinite(image.pixels).all()
    assert image.pixels[9, 9] == pytest.approx(abs(two.object[0, 9, 9]) ** 2, rel=1e-4)


@given(st.floats(-1.5, 1.5), st.floats(-1.5, 1.5), st.floats(-3, 3), st.integers(0, 99))
def test_flatten_removes_any_ramp_and_offset(dy, dx, offset, seed):
    y, x = np.mgrid[:24, :30]
    noise = 0.05 * np.random.default_rng(seed).normal(size=y.shape)
    plane = np.exp(1j * (dy * y + dx * x + offset + noise)).astype(np.complex64)
    flat = view.flatten(plane, np.ones(plane.shape, bool))
    assert np.abs(np.angle(flat)).max() < 0.6


def test_shrink_averages_the_odd_rest_too():
    plane = np.arange(35.0).reshape(5, 7)
    small = view.shrink(plane, 3)
    assert small.shape == (2, 3)
    assert small[0, 0] == plane[:3, :3].mean()
    assert small[1, 2] == plane[3:, 6:].mean()


@given(st.lists(st.binary(max_size=80), max_size=4))
def test_any_bytes_decode_or_are_a_decode_error(parts):
    with pytest.raises(DecodeError):
        decode_picture(parts)


@given(st.data())
def test_a_damaged_preview_is_a_decode_error_or_a_picture(data):
    header = {"images": [{"name": "a", "dtype": "|u1", "shape": [2, 3]}]}
    key = data.draw(st.sampled_from(["dtype", "shape", "low", "origin_m", "extra"]))
    header["images"][0] |= {"low": 0, "high": 1, "pixel_m": [1, 1], "origin_m": [0, 0]}
    numbers = st.integers(-5, 2**60)
    junk = st.none() | numbers | st.text(max_size=5) | st.lists(numbers, max_size=5)
    header["images"][0][key] = data.draw(junk)
    try:
        picture = decode_picture([msgpack.Packer().pack(header), b"123456"])
    except DecodeError:
        return
    assert picture.images[0].pixels.size == 6
