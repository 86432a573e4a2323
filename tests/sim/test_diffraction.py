import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ptystream.errors import ConfigError
from ptystream.sim.diffraction import Diffraction
from ptystream.sim.probe import ZonePlate, at_specimen, pupil, pupil_modes
from ptystream.sim.sample import Canvas

SIZE, PIXEL_M = 32, 50e-9
CANVAS = Canvas((60, 70), (PIXEL_M, PIXEL_M), (1e-6, -2e-6))
CENTRE = np.array([30.0, 35.0])

PUPIL = pupil(
    ZonePlate(150e-6, 120e-9, 50e-6),
    defocus_m=400e-6,
    wavelength_m=1.24e-10,
    pixel_m=(PIXEL_M, PIXEL_M),
    size=SIZE,
)
MODES = pupil_modes(PUPIL, (0.7, 0.2, 0.1), photons=1e4)
OFFSETS = st.floats(-6, 6)


def off(dy: float, dx: float) -> np.ndarray:
    """The centre, moved by this much, in pixels."""
    return CENTRE + np.array([dy, dx])


def at(*pixels: np.ndarray) -> np.ndarray:
    """One exposure that visits these object pixels, in metres."""
    return np.array([[CANVAS.origin_m + p * np.array(CANVAS.pixel_m) for p in pixels]])


def pattern(obj: np.ndarray, pixel: np.ndarray) -> np.ndarray:
    return Diffraction(obj[None], CANVAS, MODES).patterns(at(pixel))[0]


def random_object(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.uniform(0.5, 1, CANVAS.shape) * np.exp(1j * rng.normal(0, 1, (60, 70)))


def test_equals_the_plain_fourier_sum():
    obj, corner = random_object(), (30 - 16, 35 - 16)
    window = obj[corner[0] : corner[0] + SIZE, corner[1] : corner[1] + SIZE]
    n = np.arange(SIZE) - SIZE // 2
    kernel = np.exp(-2j * np.pi * np.outer(n, n) / SIZE) / np.sqrt(SIZE)
    # Rows are frequencies, zero in the centre; no FFT and no shift takes part.
    probe = kernel.conj() @ MODES @ kernel.conj().T
    expected = (np.abs(kernel @ (probe * window) @ kernel.T) ** 2).sum(axis=0)
    assert np.allclose(pattern(obj, CENTRE), expected)


@settings(max_examples=20)
@given(OFFSETS, OFFSETS)
def test_an_empty_object_shows_the_pupil_wherever_it_is(dy, dx):
    shown = pattern(np.ones(CANVAS.shape, complex), off(dy, dx))
    assert np.allclose(shown, (np.abs(MODES) ** 2).sum(axis=0))


@settings(max_examples=20)
@given(OFFSETS, OFFSETS)
def test_a_pure_phase_object_loses_no_photon(dy, dx):
    obj = random_object() / np.abs(random_object())
    assert pattern(obj, off(dy, dx)).sum() == pytest.approx(1e4)


@settings(max_examples=20)
@given(st.integers(-6, 6), st.integers(-6, 6))
def test_moving_the_stage_is_moving_the_object(dy, dx):
    obj = random_object()
    moved = np.roll(obj, (-dy, -dx), axis=(0, 1))
    here = pattern(obj, off(dy + 0.3, dx - 0.2))
    assert np.allclose(here, pattern(moved, off(0.3, -0.2)))


@settings(max_examples=20)
@given(OFFSETS, OFFSETS)
def test_so_it_is_between_pixels(dy, dx):
    y, x = np.indices(CANVAS.shape)

    def gratings(y, x):
        wave = np.exp(2j * np.pi * (4 * y - 2 * x) / SIZE)
        return 0.7 + 0.3j * wave + 0.2 * np.exp(2j * np.pi * 3 * x / SIZE)

    here = pattern(gratings(y, x), off(dy, dx))
    assert np.allclose(here, pattern(gratings(y + dy, x + dx), CENTRE))


def test_a_phase_that_rises_with_x_throws_light_to_larger_x():
    x = np.indices(CANVAS.shape)[1]
    wedge = pattern(np.exp(2j * np.pi * 5 * x / SIZE), CENTRE)
    empty = pattern(np.ones(CANVAS.shape, complex), CENTRE)
    assert np.allclose(wedge, np.roll(empty, 5, axis=1))


def test_blur_is_the_mean_along_the_way():
    obj = random_object()
    way = [CENTRE, off(0, 1.5), off(0, 3)]
    blurred = Diffraction(obj[None], CANVAS, MODES).patterns(at(*way))[0]
    assert np.allclose(blurred, np.mean([pattern(obj, p) for p in way], axis=0))


@pytest.mark.parametrize("pixel", [(15, 35), (30, 54.6), (44.6, 35), (30, 15)])
def test_refuses_a_window_beyond_the_canvas(pixel):
    with pytest.raises(ConfigError, match="leaves the canvas"):
        pattern(random_object(), np.array(pixel))


def test_the_probe_in_the_truth_is_the_one_used():
    obj = np.zeros(CANVAS.shape, complex)
    obj[30, 35] = 1  # a pinhole at the exposure's position passes pixel [K/2, K/2]
    passed = (np.abs(at_specimen(MODES)[:, SIZE // 2, SIZE // 2]) ** 2).sum()
    assert pattern(obj, CENTRE).sum() == pytest.approx(passed)
