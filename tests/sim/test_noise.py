import numpy as np
import pytest

from ptystream.sim.experiment import build
from ptystream.sim.noise import gaussian, mixed, noise_of, none, scaled_poisson

SHAPE = (10, 100, 100)
"""10⁵ draws: a mean is good to 1 % of the deviation, a variance to 1.5 %, at 3 σ."""


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_scaled_poisson_has_the_moments_of_equation_6():
    drawn = scaled_poisson(np.full(SHAPE, 50.0), rng(), alpha=10, peak=200)
    assert drawn.mean() == pytest.approx(50, abs=0.4)
    # (peak/α)² times the photons, I·α/peak.
    assert drawn.var() == pytest.approx(200 * 50 / 10, rel=0.02)
    assert set(np.unique(drawn)) <= set(20.0 * np.arange(50))


def test_gaussian_has_the_moments_of_equation_7():
    drawn = gaussian(np.full(SHAPE, 1000.0), rng(), sigma=100)
    assert drawn.mean() == pytest.approx(1000, abs=1)
    assert drawn.std() == pytest.approx(100, rel=0.01)


def test_gaussian_noise_is_clipped_at_zero():
    drawn = gaussian(np.zeros(SHAPE), rng(), sigma=100)
    assert drawn.min() == 0
    assert (drawn == 0).mean() == pytest.approx(0.5, abs=0.01)
    assert drawn.mean() == pytest.approx(100 / np.sqrt(2 * np.pi), rel=0.02)


def test_mixed_noise_adds_both_as_equation_8():
    drawn = mixed(np.full(SHAPE, 2000.0), rng(), alpha=10, peak=2000, sigma=100)
    assert drawn.mean() == pytest.approx(2000, rel=0.01)
    assert drawn.var() == pytest.approx(2000**2 / 10 + 100**2, rel=0.02)


def test_dark_frames_stay_dark_in_photon_noise():
    assert not scaled_poisson(np.zeros(SHAPE), rng(), alpha=10, peak=0).any()


@pytest.mark.parametrize("name", ["poisson", "gaussian", "none"])
def test_the_peak_is_sought_only_where_it_counts(name):
    def unasked() -> float:
        raise AssertionError("the whole scan was computed for nothing")

    made = noise_of(name, alpha=10, sigma=1, peak=unasked)
    assert made(np.ones((1, 2, 2)), rng()).shape == (1, 2, 2)


def test_no_noise_is_none():
    intensity = np.random.default_rng(1).uniform(0, 9, (2, 3, 3))
    assert np.array_equal(none(intensity, rng()), intensity)


BRIGHT = {"photons_per_frame": 1e7, "outer_zone_m": 100e-9}


def noisy(tiny, **detector) -> tuple[np.ndarray, np.ndarray]:
    """Frames as counted, and as expected."""
    settings = tiny(optics=BRIGHT, detector={"dtype": "uint32", **detector})
    experiment = build(settings)
    counts = np.stack(list(experiment.frames(0))).astype(float)
    return counts, np.concatenate(list(experiment.patterns()))


def test_a_scans_brightest_pixel_counts_alpha_photons(tiny):
    counts, expected = noisy(tiny, noise="scaled_poisson", alpha=10)
    photons = counts * 10 / expected.max()
    assert np.abs(photons - np.rint(photons)).max() < 10 / expected.max()
    # Every pixel's photons vary as they count: (n - λ)²/λ is 1 in the mean.
    wanted = expected * 10 / expected.max()
    bright = wanted > 0.5
    spread = (photons - wanted)[bright] ** 2 / wanted[bright]
    assert spread.mean() == pytest.approx(1, abs=0.1)


def test_paper_as_sigma_is_counts_on_the_wire(tiny):
    counts, expected = noisy(tiny, noise="gaussian", sigma_counts=100)
    bright = expected > 500
    assert bright.sum() > 1000
    assert (counts - expected)[bright].std() == pytest.approx(100, rel=0.05)
    dark = counts[expected < 1]
    error = 58.4 / np.sqrt(dark.size)
    assert dark.mean() == pytest.approx(100 / np.sqrt(2 * np.pi), abs=4 * error)
