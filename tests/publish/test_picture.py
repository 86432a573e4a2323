import threading

import numpy as np
import pytest
from matplotlib.image import imread

from ptystream.publish.colour import phase_colours, wheel
from ptystream.publish.files import Result
from ptystream.publish.picture import draw

UNLIT = np.array([0xD4, 0xD8, 0xDE]) / 255
HISTORY = {
    "time_s": np.arange(20.0),
    "held_out_error": 0.5 * 0.8 ** np.arange(20.0),
    "flat_error": np.full(20, 0.6),
    "covered": np.linspace(0, 1, 20),
}


def pixels(path):
    picture = imread(path)[..., :3]
    assert picture.shape == (834, 1800, 3)
    return picture


def share_of(picture, colour):
    return (np.abs(picture - colour).max(-1) < 0.01).mean()


def test_a_snapshot_is_drawn_and_the_uncovered_is_grey(tmp_path, snapshot):
    shot = snapshot((1, 60, 60))
    draw(shot, HISTORY, tmp_path / "full.png", "a run")
    shot.coverage[:, :] = 0
    shot.coverage[10:30, 10:50] = 1
    shot.coverage[30:50, 10:20] = 1
    draw(shot, HISTORY, tmp_path / "part.png", "a run")
    full, part = pixels(tmp_path / "full.png"), pixels(tmp_path / "part.png")
    assert share_of(full, UNLIT) < 0.01
    assert share_of(part, UNLIT) > 0.05
    assert full.std() > 0.1


@pytest.mark.parametrize(
    ("change", "history"),
    [
        ({"object": np.ones((1, 40, 56), np.complex64)}, {}),
        (
            {"object": np.full((1, 40, 56), np.nan, np.complex64)},
            {"time_s": np.zeros(0), "held_out_error": np.zeros(0)},
        ),
        (
            {"object": np.zeros((3, 40, 56), np.complex64)},
            {"time_s": np.zeros(1), "held_out_error": np.full(1, np.nan)},
        ),
        ({"probe": np.zeros((6, 8, 8), np.complex64)}, HISTORY),
        (
            {"coverage": np.zeros((40, 56), np.float32)},
            {"time_s": np.arange(2.0), "held_out_error": np.full(2, 0.1)},
        ),
        ({"pixel_m": (1e-12, 1e-12)}, HISTORY),
    ],
    ids=["flat", "nan", "empty", "no probe", "unlit", "small"],
)
def test_odd_reconstructions_are_drawn(tmp_path, snapshot, change, history):
    draw(snapshot(**change), history, tmp_path / "p.png", "t $x_{$")
    pixels(tmp_path / "p.png")


def test_a_wide_result_without_coverage_is_drawn_in_another_thread(tmp_path, snapshot):
    shot = snapshot((1, 20, 90))
    result = Result(shot.object, shot.probe, shot.pixel_m, shot.origin_m)
    where = tmp_path / "new" / "p.png"
    thread = threading.Thread(target=draw, args=(result, HISTORY, where, "wide"))
    thread.start()
    thread.join()
    pixels(where)


def test_hues_are_equally_light_and_dark_means_nothing():
    phases = np.linspace(-np.pi, np.pi, 73)
    colours = phase_colours(phases)
    assert colours.min() >= 0
    assert colours.max() <= 1
    linear = np.where(
        colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4
    )
    luminance = linear @ [0.2126, 0.7152, 0.0722]
    assert luminance.max() / luminance.min() < 1.3
    np.testing.assert_allclose(colours[0], colours[-1], atol=1e-9)
    np.testing.assert_allclose(phase_colours(phases, 0.0), 0, atol=1e-9)
    assert wheel(64)[0, 0, 3] == 0
    assert wheel(64)[32, 60, 3] == 1
