from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imsave

from ptystream.errors import ConfigError
from ptystream.sim.pictures import PAINTERS, picture, resize


@pytest.mark.parametrize("name", PAINTERS)
@pytest.mark.parametrize("shape", [(64, 64), (61, 150)])
def test_fills_the_range_at_any_shape(name, shape):
    image = picture(name, shape, seed=5)
    assert image.shape == shape
    assert image.min() == 0
    assert image.max() == 1
    assert image.std() > 0.1


@pytest.mark.parametrize("name", PAINTERS)
def test_the_seed_decides(name):
    first = picture(name, (80, 80), seed=1)
    assert np.array_equal(first, picture(name, (80, 80), seed=1))
    assert not np.array_equal(first, picture(name, (80, 80), seed=2))


@pytest.mark.parametrize("name", PAINTERS)
def test_has_coarse_and_fine_structure(name):
    image = picture(name, (256, 256), seed=1)
    power = np.abs(np.fft.fft2(image - image.mean())) ** 2
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(256), np.fft.fftfreq(256)))
    # A blurred picture has 1e-6 of its power beyond a quarter of the sampling rate.
    assert power[frequency > 0.25].sum() / power.sum() > 1e-3
    assert power[frequency < 0.05].sum() / power.sum() > 0.1


@pytest.mark.parametrize("name", PAINTERS)
def test_has_sharp_edges(name):
    image = picture(name, (256, 256), seed=1)
    assert np.abs(np.diff(image, axis=0)).max() > 0.4


def test_shrinking_does_not_alias():
    checkers = np.indices((90, 90)).sum(axis=0) % 2.0
    assert np.abs(resize(checkers, (30, 30))[1:-1, 1:-1] - 0.5).max() < 0.02


def test_resizing_keeps_a_ramp():
    ramp = np.tile(np.linspace(0, 1, 100), (40, 1))
    smaller = resize(ramp, (20, 50))
    assert np.allclose(np.diff(smaller[:, 2:-2], axis=1), 2 / 99)
    assert np.allclose(smaller[0], smaller[-1])


def test_reads_a_color_png_as_gray(tmp_path: Path):
    image = np.zeros((40, 60, 3))
    image[10:30, 15:45] = (1, 0, 0)
    imsave(tmp_path / "red.png", image)
    gray = picture(str(tmp_path / "red.png"), (20, 30))
    assert gray[10, 15] == 1
    assert gray[1, 1] == 0


def test_a_picture_is_cropped_not_squeezed(tmp_path: Path):
    y, x = np.indices((100, 200)) - np.array([50, 100])[:, None, None]
    np.save(tmp_path / "disc.npy", (np.hypot(y, x) < 20).astype(float))
    disc = picture(str(tmp_path / "disc.npy"), (50, 50)) > 0.5
    assert abs(np.ptp(np.nonzero(disc.any(0))) - np.ptp(np.nonzero(disc.any(1)))) <= 1


def test_a_flat_picture_is_gray(tmp_path: Path):
    np.save(tmp_path / "flat.npy", np.full((9, 9), 7))
    assert np.all(picture(str(tmp_path / "flat.npy"), (5, 5)) == 0.5)


@pytest.mark.parametrize("content", [None, b"not an image"])
@pytest.mark.parametrize("name", ["missing.png", "missing.npy"])
def test_says_what_it_wanted(tmp_path: Path, name: str, content: bytes | None):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"cells.*or an image file"):
        picture(str(path), (8, 8))


def test_refuses_what_is_not_a_picture(tmp_path: Path):
    np.save(tmp_path / "line.npy", np.arange(9.0))
    with pytest.raises(ConfigError, match="2-D"):
        picture(str(tmp_path / "line.npy"), (8, 8))
