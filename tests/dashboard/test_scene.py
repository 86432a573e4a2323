from dataclasses import replace

import numpy as np
import pytest

from ptystream.dashboard.scene import MAX_PX, scene
from ptystream.publish.images import Picture, decode_picture, encode_picture
from tests.dashboard.conftest import a_map, a_picture


def with_layer(name, **changes):
    """Return the picture with one layer changed."""
    picture = a_picture()
    images = [replace(i, **changes) if i.name == name else i for i in picture.images]
    return Picture(tuple(images), picture.about)


def test_codes_stand_for_values_and_the_box_is_the_outer_edges():
    shown = scene(a_picture()).maps["object_amplitude"]
    x = np.arange(60)
    want = 1 + 0.2 * np.sin(x / 5)
    got = shown.low + shown.codes[7] / 255 * (shown.high - shown.low)
    np.testing.assert_allclose(got, want, atol=0.4 / 255)
    np.testing.assert_allclose(shown.box_m, (1.995e-6, 0.995e-6, 600e-9, 400e-9))


def test_contrast_is_of_what_is_lit():
    y, x = np.mgrid[:40, :60]
    dark = (y <= 4) | (x <= 4)
    values = np.where(dark, 50.0, 1 + 0.2 * np.sin(x / 5)).astype(np.float32)
    shown = scene(with_layer("object_amplitude", pixels=values, high=50.0))
    low, high = shown.maps["object_amplitude"].limits
    assert 0.75 < low < 0.85
    assert 1.15 < high < 1.25
    assert 0 < shown.lit <= 1


def test_a_large_map_is_averaged_and_stays_in_its_box():
    large = a_map("object_amplitude", np.ones((1500, 900)), 0.0, 2.0)
    picture = Picture((large,), {})
    shown = scene(picture).maps["object_amplitude"]
    assert max(shown.codes.shape) <= MAX_PX
    assert shown.box_m[2:] == pytest.approx((9e-6, 15e-6))


def test_modes_lie_side_by_side_with_their_share_of_the_light():
    probe = scene(a_picture()).probe
    assert probe.rgba.shape == (16, 16 + 1 + 16)
    assert probe.rgba.dtype == np.uint32
    np.testing.assert_allclose(probe.shares, (0.8, 0.2), atol=1e-6)
    alpha = probe.rgba.view(np.uint8).reshape(16, 33, 4)[..., 3]
    assert (alpha[:, 16] == 0).all()
    assert (np.delete(alpha, 16, 1) == 255).all()


def test_the_newest_place_is_the_last_and_the_pattern_has_its_prediction():
    shown = scene(a_picture())
    assert shown.places_m[-1] == pytest.approx((1.2e-6, 2.3e-6))
    assert shown.pattern.codes.shape == (16, 34)
    assert shown.pattern.box_m == (-17, -8, 34, 16)


def test_it_comes_over_the_wire():
    shown = scene(decode_picture(encode_picture(a_picture(), {"seq": 1})))
    assert shown.run == "run-1"
    assert shown.step == 7
    assert set(shown.maps) == {
        "object_amplitude",
        "object_phase",
        "coverage",
        "confidence",
    }


def test_an_older_service_shows_what_it_has():
    shown = scene(Picture(a_picture().images[:2], {}))
    assert set(shown.maps) == {"object_amplitude", "object_phase"}
    assert shown.probe is None
    assert shown.pattern is None
    assert shown.places_m.shape == (0, 2)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("object_phase", {"pixels": np.zeros((2, 4, 4), np.float32)}),
        ("object_amplitude", {"high": 0.8}),
        ("object_amplitude", {"pixels": np.zeros((0, 4), np.float32)}),
        ("probe_phase", {"pixels": np.zeros((1, 16, 16), np.float32)}),
        ("places", {"pixels": np.zeros((4, 3), np.float32)}),
        ("pattern", {"pixels": np.zeros((16, 16), np.float32)}),
    ],
)
def test_a_layer_without_sense_is_refused_by_name(name, changes):
    with pytest.raises(ValueError, match=name.split("_")[0]):
        scene(with_layer(name, **changes))


def test_what_is_not_finite_spreads_nowhere():
    pixels = a_picture().images[0].pixels.copy()
    pixels[7, 9] = np.nan
    shown = scene(with_layer("object_amplitude", pixels=pixels)).maps[
        "object_amplitude"
    ]
    assert np.isfinite(shown.limits).all()
