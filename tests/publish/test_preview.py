import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptystream.errors import DecodeError
from ptystream.publish import view
from ptystream.publish.images import decode_picture, encode_picture
from ptystream.publish.preview import PLACES, PreviewSink, make_preview, pattern, places
from ptystream.recon.snapshot import Latest


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


def latest(**changes):
    """Return a newest exposure whose prediction is half of it."""
    counts = np.arange(64.0, dtype=np.float32).reshape(8, 8)
    values = {"index": 5, "position_m": (1e-6, -2e-6), "measured": counts}
    return Latest(**(values | {"predicted": counts / 2} | changes))


def test_a_weak_phase_gets_all_levels(snapshot):
    y, x = np.mgrid[:40, :56]
    plane = np.exp(0.05j * np.sin(x / 5) * np.cos(y / 7))
    weak = snapshot(object=plane[None].astype(np.complex64))
    image = named(make_preview(weak))["object_phase"]
    assert image.high - image.low < 0.2
    assert len(np.unique(image.pixels)) > 100


def test_one_broken_pixel_costs_no_contrast(snapshot):
    hot = snapshot()
    hot.object[0, 20, 20] = 1000
    image = named(make_preview(hot))["object_amplitude"]
    assert image.high < 2


def test_the_confidence_goes_along_where_there_is_one(snapshot):
    assert "confidence" not in named(make_preview(snapshot()))
    sure = snapshot(confidence=np.full((40, 56), 0.5, np.float32))
    image = named(make_preview(sure, depth="f4"))["confidence"]
    assert (image.values() == 0.5).all()


def test_places_are_bounded_and_the_newest_is_the_last(snapshot):
    many = np.arange(20_000.0).reshape(-1, 2) * 1e-9
    image = places(snapshot(positions_m=many, latest=latest()))
    assert len(image.pixels) <= PLACES + 1
    np.testing.assert_allclose(image.pixels[-1], (1e-6, -2e-6), rtol=1e-6)
    np.testing.assert_allclose(image.pixels[1], many[3], rtol=1e-6)
    assert places(snapshot(positions_m=np.zeros((0, 2)))).pixels.shape == (0, 2)


def test_a_pattern_and_its_prediction_are_decades_of_photons():
    image = pattern(latest())
    assert image.pixels.shape == (2, 8, 8)
    step = (image.high - image.low) / 255
    want = np.log10(1 + np.arange(64.0).reshape(8, 8))
    np.testing.assert_allclose(image.values()[0], want, atol=step)
    large = np.ones((600, 600), np.float32)
    shrunk = pattern(latest(measured=large, predicted=np.full_like(large, np.nan)))
    assert max(shrunk.pixels.shape) <= 256
    assert shrunk.pixel_m == (3, 3)


def test_the_sink_shows_the_scan_its_geometry_and_the_newest_pattern(snapshot, info):
    shown = []
    sink = PreviewSink(shown.append)
    sink.start(info())
    sink.update(snapshot(latest=latest()), None)
    picture = decode_picture(encode_picture(shown[0], {}))
    assert {"places", "pattern"} <= named(picture).keys()
    assert picture.about["geometry"] == {"wavelength_m": 1e-10}
    assert picture.about["pixel_m"] == pytest.approx([10e-9, 12e-9])
