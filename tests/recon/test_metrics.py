import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptystream.recon import metrics

RNG = np.random.default_rng(0)
WHOLE = np.ones((96, 96), bool)


def picture(n: int, seed: int) -> np.ndarray:
    """Coarse and fine structure in 0..1: noise with a 1/f amplitude."""
    noise = np.fft.fft2(np.random.default_rng(seed).normal(size=(n, n)))
    f = np.hypot(np.fft.fftfreq(n)[:, None], np.fft.fftfreq(n))
    image = np.fft.ifft2(noise / (0.02 + f)).real
    return (image - image.min()) / np.ptp(image)


def white(n: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, n)) + 1j * rng.normal(size=(n, n))


def test_psnr_by_hand():
    truth = np.array([0.2, 0.4, 0.4, 0.8]) + 0j
    # Median 0.2 scales by 2: 0.4, 0.4, 0.2, and 2.0 clipped at 1. Squared errors
    # 0.04, 0, 0.04, 0.04: mean 0.03.
    result = np.array([0.2, 0.2, 0.1, 1.0]) * np.exp(1j)
    expected = 10 * np.log10(1 / 0.03)
    assert metrics.psnr_amplitude_db(result, truth) == pytest.approx(expected)


def test_psnr_phase_by_hand():
    truth = np.exp(1j * np.zeros(4))
    result = np.exp(1j * (np.array([0.1, -0.1, 0.1, -0.1]) + 2.5))
    expected = 10 * np.log10(np.pi**2 / 0.01)
    assert metrics.psnr_phase_db(result, truth) == pytest.approx(expected)


def test_identical_images_have_the_best_psnr():
    truth = picture(32, 0) * np.exp(1j * picture(32, 1))
    assert metrics.psnr_amplitude_db(truth, truth) == metrics.BEST_DB
    assert metrics.psnr_phase_db(truth, truth) == metrics.BEST_DB


@given(st.lists(st.floats(-3.1, 3.1), min_size=1, max_size=30))
def test_circular_offset_beats_brute_force(angles):
    angles = np.array(angles)

    def cost(theta):
        wrapped = (angles[:, None] - theta + np.pi) % (2 * np.pi) - np.pi
        return np.square(wrapped).sum(axis=0)

    found = metrics.circular_offset(angles)
    grid = np.linspace(-np.pi, np.pi, 4001)
    assert cost(np.array([found]))[0] <= cost(grid).min() + 1e-9


def test_circular_offset_across_the_wrap():
    angles = np.pi + np.array([-0.2, 0.1, 0.1])
    assert abs(metrics.circular_offset(angles)) == pytest.approx(np.pi)


def test_ssim_is_one_for_equal_images_and_low_for_noise():
    image = picture(96, 2)
    assert metrics.ssim(image, image, 1.0, WHOLE) == pytest.approx(1)
    noise = np.random.default_rng(1).uniform(size=image.shape)
    assert metrics.ssim(noise, image, 1.0, WHOLE) < 0.2


def test_ssim_is_that_of_scikit_image():
    reference = pytest.importorskip("skimage.metrics").structural_similarity
    image = picture(96, 2)
    noisy = image + 0.05 * RNG.normal(size=image.shape)
    expected = reference(
        noisy,
        image,
        data_range=1.0,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    assert metrics.ssim(noisy, image, 1.0, WHOLE) == pytest.approx(expected, abs=1e-9)


def test_ssim_sees_nothing_outside_the_region():
    image = picture(96, 2)
    region = np.zeros((96, 96), bool)
    region[20:60, 30:80] = True
    spoilt = np.where(region, image, 9.0)
    assert metrics.ssim(spoilt, image, 1.0, region) == pytest.approx(1)
    region[:] = False
    assert np.isnan(metrics.ssim(image, image, 1.0, region))


def test_frc_of_identical_images_is_one_up_to_nyquist():
    image = picture(96, 3) * np.exp(1j * picture(96, 4))
    curve = metrics.frc(image, image, (5e-9, 5e-9), metrics.soft_window(WHOLE))
    assert curve.correlation == pytest.approx(1)
    assert curve.frequency_per_m[-1] == pytest.approx(1 / 10e-9)
    assert curve.resolution().resolution_m == pytest.approx(5e-9)
    assert curve.resolution().nyquist_limited


@pytest.mark.parametrize("seed", range(5))
def test_frc_of_white_noise_stays_below_half_a_bit(seed):
    window = metrics.soft_window(np.ones((192, 192), bool))
    curve = metrics.frc(white(192, seed), white(192, seed + 50), (1.0, 1.0), window)
    above = curve.correlation > curve.threshold()
    assert above[5:].sum() == 0
    assert np.isnan(curve.resolution().resolution_m) or curve.resolution()[0] > 10


def test_frc_spreads_as_its_samples_say():
    """Noise: the real part has the variance 1/(2n); behind a window, no more."""
    flat, soft = np.ones((64, 64)), metrics.soft_window(np.ones((64, 64), bool), 24)
    for real in (False, True):
        for window in (flat, soft):
            curves = []
            for seed in range(60):
                a, b = white(64, 2 * seed), white(64, 2 * seed + 1)
                a, b = (a.real, b.real) if real else (a, b)
                curves.append(metrics.frc(a, b, (1.0, 1.0), window))
            z = np.stack([c.correlation * np.sqrt(2 * c.samples) for c in curves])
            least = 0.93 if window is flat else 0.7
            assert least < z[:, 5:].std() < 1.07


def test_frc_finds_the_frequency_where_two_noisy_copies_part():
    """Equal below a quarter of the sampling rate, independent above: two pixels."""
    shared, cut = white(256, 1), np.hypot(*np.meshgrid(*[np.fft.fftfreq(256)] * 2))
    a, b = (
        np.fft.ifft2(np.where(cut < 0.25, shared, white(256, seed))) for seed in (2, 3)
    )
    curve = metrics.frc(a, b, (4e-9, 4e-9), metrics.soft_window(a.real < np.inf))
    for bits in ("half", "one"):
        found = curve.resolution(bits)
        assert found.resolution_m == pytest.approx(2 * 4e-9, rel=0.03)
        assert not found.nyquist_limited


def test_frc_knows_pixels_that_are_not_square():
    a = white(128, 5)[:, :64]
    curve = metrics.frc(a, a, (1e-9, 3e-9), np.ones(a.shape))
    assert curve.frequency_per_m[-1] <= 1 / 6e-9
    assert curve.frequency_per_m[0] == pytest.approx(1 / 128e-9)
    assert curve.resolution().nyquist_limited


def test_thresholds_by_hand():
    n = np.array([1.0, 100.0, 1e12])
    assert metrics.half_bit(n) == pytest.approx(
        [1.0, 0.3982 / 1.2981, 0.1716], abs=1e-3
    )
    assert metrics.one_bit(n) == pytest.approx([1.0, 0.7414 / 1.6414, 1 / 3], abs=1e-3)


def test_the_crossing_is_interpolated():
    curve = metrics.Frc(
        frequency_per_m=np.array([1.0, 2.0, 3.0]),
        correlation=np.array([1.0, 0.5, -0.1]),
        samples=np.full(3, 1e12),
    )
    low = 0.2071 / 1.2071
    frequency = 2 + (0.5 - low) / 0.6
    assert curve.resolution().resolution_m == pytest.approx(0.5 / frequency, rel=1e-5)


def test_soft_window_is_zero_outside_and_one_inside():
    region = np.zeros((60, 80), bool)
    region[10:50, 20:70] = True
    window = metrics.soft_window(region, 5)
    assert (window[~region] == 0).all()
    assert (window[14:46, 24:66] == 1).all()
    assert 0 < window[10, 40] < window[11, 40] < window[12, 40] < 1
    to_the_edge = metrics.soft_window(np.ones((20, 20), bool), 4)
    assert to_the_edge[0, 10] == to_the_edge[10, -1] < 0.2
