import asyncio

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptystream.bluesky.refine import maps, newest_picture, places, weakest
from ptystream.errors import StoppedError
from ptystream.publish.control import ControlServer
from ptystream.publish.images import Image, Picture


def scanned(shape=(60, 80), margin=10):
    """A map that is 1 within its margin."""
    values = np.zeros(shape, np.float32)
    values[margin:-margin, margin:-margin] = 1
    return values


def test_the_weakest_place_within_the_scan_is_found():
    values = scanned()
    values[30:40, 50:60] = 0.2
    assert weakest(values, values, (10, 10), 1) == [(35, 55)]


def test_places_do_not_overlap_and_the_worst_comes_first():
    values = scanned()
    values[15:25, 15:25] = 0.5
    values[30:40, 50:60] = 0.2
    assert weakest(values, values, (10, 10), 2) == [(35, 55), (20, 20)]
    assert len(weakest(values, values, (10, 10), 100)) <= 4 * 6


def test_a_hole_that_was_never_scanned_counts():
    values = scanned()
    values[20:30, 20:30] = 0
    assert weakest(values, values, (10, 10), 1) == [(25, 25)]


def test_where_confidence_is_low_all_over_one_half_it_is_still_scanned():
    confidence = scanned()
    confidence[:, 40:] *= 0.05
    assert weakest(confidence, scanned(), (10, 10), 1)[0][1] >= 40


def picture(*names):
    values = scanned()
    images = [Image(n, values, 0, 1, (1e-8, 1e-8), (0.0, 0.0)) for n in names]
    return Picture(tuple(images), {})


def test_confidence_is_gone_by_where_it_is_published():
    assert maps(picture("coverage", "confidence"))[0].name == "confidence"
    assert maps(picture("coverage"))[0].name == "coverage"
    with pytest.raises(StoppedError, match="without coverage"):
        maps(picture("object_phase"))


@given(
    window=st.tuples(st.integers(1, 90), st.integers(1, 90)), count=st.integers(1, 5)
)
def test_places_lie_within_the_scan(window, count):
    found = weakest(scanned(), scanned(), window, count)
    assert 1 <= len(found) <= count
    assert all(10 <= row <= 50 and 10 <= column <= 70 for row, column in found)


def test_pixels_become_metres():
    values = scanned()
    values[30:40, 50:60] = 0.2
    image = Image("coverage", values, 0, 1, (1e-8, 2e-8), (1e-6, -1e-6))
    (place,) = places(image, image, (1e-7, 2e-7), 1)
    assert place == pytest.approx((1e-6 + 35e-8, -1e-6 + 110e-8))


def test_where_nothing_is_scanned_no_place_is_weaker():
    with pytest.raises(StoppedError, match="nothing is scanned"):
        weakest(np.ones((4, 4)), np.zeros((4, 4)), (1, 1), 1)


def test_the_newest_picture_comes_from_the_services_socket():
    image = Image("coverage", scanned(), 0, 1, (1e-8, 1e-8), (0.0, 0.0))
    with ControlServer({}, dict) as server:
        server.show(Picture((image,), {}))
        picture = asyncio.run(newest_picture(server.preview_address))
    assert picture.images[0].name == "coverage"


def test_no_picture_is_an_error():
    with pytest.raises(StoppedError, match="no preview"):
        asyncio.run(newest_picture("tcp://127.0.0.1:1", 0.1))
