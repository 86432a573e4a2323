import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ptystream.recon.align import Grid, Lookup, align

BORDER = 20
SIZE = 100


def picture(n: int, seed: int, finest: float = 0.35) -> np.ndarray:
    """Structure in 0..1 up to ``finest`` cycles per pixel."""
    noise = np.fft.fft2(np.random.default_rng(seed).normal(size=(n, n)))
    f = np.hypot(np.fft.fftfreq(n)[:, None], np.fft.fftfreq(n))
    image = np.fft.ifft2(noise * (f < finest) / (0.02 + f)).real
    return (image - image.min()) / np.ptp(image)


def sample(phase_rad: float = 1.0) -> np.ndarray:
    n = SIZE + 2 * BORDER
    return (0.6 + 0.4 * picture(n, 1)) * np.exp(1j * phase_rad * picture(n, 2))


def cut(image: np.ndarray) -> np.ndarray:
    return image[BORDER:-BORDER, BORDER:-BORDER]


def fourier_shifted(image: np.ndarray, shift: tuple[float, float]) -> np.ndarray:
    """An independent shift: by the Fourier theorem, periodic."""
    f = [np.fft.fftfreq(n) for n in image.shape]
    ramp = np.exp(-2j * np.pi * (shift[0] * f[0][:, None] + shift[1] * f[1][None, :]))
    return np.fft.ifft2(np.fft.fft2(image) * ramp)


def spoilt(image, shift, ramp, scale, noise=0.0, seed=0) -> np.ndarray:
    """What a reconstruction might be: moved, tilted, scaled, noisy."""
    moved = fourier_shifted(image, shift)
    y, x = (np.arange(n) for n in image.shape)
    moved = moved * scale * np.exp(1j * (ramp[0] * y[:, None] + ramp[1] * x[None, :]))
    rng = np.random.default_rng([seed, 7])  # not the picture's
    grain = rng.normal(size=image.shape) + 1j * rng.normal(size=image.shape)
    return moved + abs(scale) * noise * grain / 2**0.5


def lookup(result: np.ndarray) -> Lookup:
    inner = np.arange(float(BORDER), BORDER + SIZE)
    return Lookup(result, inner, inner)


EVEN = np.ones((SIZE, SIZE))
SHIFTS = st.tuples(st.floats(-5, 5), st.floats(-5, 5))
RAMPS = st.tuples(st.floats(-0.2, 0.2), st.floats(-0.2, 0.2))


@settings(max_examples=8)
@given(SHIFTS, RAMPS, st.floats(0.2, 5), st.floats(-3, 3))
def test_what_was_injected_is_found(shift, ramp, scale, phase):
    truth = sample()
    result = spoilt(truth, shift, ramp, scale * np.exp(1j * phase))
    aligned, found = align(lookup(result), cut(truth), EVEN)
    assert found.shift_px == pytest.approx(shift, abs=3e-4)
    assert found.ramp_rad_px == pytest.approx(ramp, abs=1e-5)
    assert found.scale == pytest.approx(scale, rel=1e-3)
    assert np.abs(aligned - cut(truth)).max() < 0.02
    assert found.error < 3e-3


@pytest.mark.parametrize("shift", [(0.0, 0.0), (2.3, -3.7), (-4.5, 0.5)])
def test_noise_of_a_tenth_is_borne(shift):
    """0.01 pixel is the Cramér-Rao bound here, and what 16 seeds scatter by."""
    truth = sample()
    result = spoilt(truth, shift, (0.03, -0.02), 2.0, noise=0.1)
    _, found = align(lookup(result), cut(truth), EVEN)
    assert found.shift_px == pytest.approx(shift, abs=0.04)
    assert found.ramp_rad_px == pytest.approx((0.03, -0.02), abs=2e-4)
    assert found.scale == pytest.approx(2.0, rel=0.02)


def test_phases_that_wrap_are_no_trouble():
    truth = sample(phase_rad=20.0)
    result = spoilt(truth, (1.6, -2.2), (0.1, 0.05), 0.5j)
    _, found = align(lookup(result), cut(truth), EVEN)
    assert found.shift_px == pytest.approx((1.6, -2.2), abs=0.01)
    assert found.ramp_rad_px == pytest.approx((0.1, 0.05), abs=1e-4)


def test_phase_is_that_of_the_middle():
    truth = sample()
    result = spoilt(truth, (0.0, 0.0), (0.05, 0.0), np.exp(0.3j))
    _, found = align(lookup(result), cut(truth), EVEN)
    middle = BORDER + (SIZE - 1) / 2
    expected = np.angle(np.exp(1j * (0.3 + 0.05 * middle)))
    assert found.phase_rad == pytest.approx(expected, abs=1e-6)


def test_a_perfect_result_is_left_alone():
    truth = sample()
    aligned, found = align(lookup(truth), cut(truth), EVEN)
    assert np.abs(aligned - cut(truth)).max() < 1e-12
    assert found.shift_px == pytest.approx((0, 0), abs=1e-9)


def test_weights_hide_what_is_wrong_elsewhere():
    truth = sample()
    result = spoilt(truth, (1.2, 0.7), (0.0, 0.02), 1.0)
    result[: BORDER + 40] = 30.0
    weights = EVEN.copy()
    weights[: 40 + 15] = 0  # 15: the kernel's reach
    _, found = align(lookup(result), cut(truth), weights)
    assert found.shift_px == pytest.approx((1.2, 0.7), abs=0.01)


def test_the_shift_is_bounded():
    truth = sample()
    result = spoilt(truth, (9.0, 0.0), (0.0, 0.0), 1.0)
    _, found = align(lookup(result), cut(truth), EVEN, max_shift_px=2)
    assert max(np.abs(found.shift_px)) <= 2


def test_a_flat_image_stays_where_it_is():
    truth = cut(sample())
    flat = Lookup(np.ones_like(truth), np.arange(SIZE * 1.0), np.arange(SIZE * 1.0))
    aligned, found = align(flat, truth, EVEN)
    assert found.shift_px == (0.0, 0.0)
    assert np.abs(aligned) == pytest.approx(np.abs(aligned[0, 0]))


def test_other_pixels_at_another_origin_are_brought_to_the_truths():
    """A result of 1.25 times finer pixels, its origin elsewhere, 0.8 px misplaced."""
    fine, pixel, here = 8e-9, 10e-9, (3e-6, -1e-6)

    def wave(y_m, x_m):
        y, x = (y_m - here[0])[:, None] / 40e-9, (x_m - here[1])[None, :] / 55e-9
        ring = np.cos(0.02 * (y**2 + x**2))
        return (0.8 + 0.1 * np.sin(y) * np.cos(x)) * np.exp(0.5j * ring)

    truth_grid = Grid((pixel, pixel), here)
    grid = Grid((fine, fine), (here[0] - 31.3 * fine, here[1] - 20.9 * fine))
    y, x = (
        o + np.arange(n) * fine for o, n in zip(grid.origin_m, (220, 200), strict=True)
    )
    off = (0.8 * pixel, -0.3 * pixel)
    result = wave(y - off[0], x - off[1])
    n = np.arange(SIZE) * pixel
    truth = wave(here[0] + n, here[1] + n)
    rows, cols = grid.coordinates(truth_grid, (SIZE, SIZE))
    aligned, found = align(Lookup(result, rows, cols), truth, EVEN)
    assert found.shift_px == pytest.approx((0.8, -0.3), abs=2e-3)
    assert np.abs(aligned - truth).max() < 2e-3


def test_whole_places_are_read_exactly_and_borders_repeat():
    image = np.random.default_rng(0).normal(size=(9, 9)) + 0j
    found = Lookup(image, np.arange(2.0, 6.0), np.arange(3.0, 8.0)).at((1.0, -2.0))
    assert found == pytest.approx(image[3:7, 1:6])
    beyond = Lookup(image, np.arange(-3.0, 0.0), np.arange(9.0)).at()
    assert beyond == pytest.approx(np.tile(image[0], (3, 1)))


def test_coarser_places_do_not_alias():
    rows = np.exp(1j * np.pi * 0.9 * np.arange(200))[:, None] * np.ones((1, 8))
    found = Lookup(rows, np.arange(60.0, 140.0, 2.0), np.arange(8.0)).at()
    assert np.abs(found).max() < 0.01


@pytest.mark.parametrize("finest", [0.2, 0.35, 0.4])
def test_interpolation_is_the_fourier_shift_below_four_fifths_of_nyquist(finest):
    image = picture(160, 5, finest) + 0j
    expected = fourier_shifted(image, (-0.4, 0.3))[40:-40, 40:-40]
    inner = np.arange(40.0, 120.0)
    assert np.abs(Lookup(image, inner, inner).at((0.4, -0.3)) - expected).max() < 1e-3
