import numpy as np
import pytest

from ptystream.errors import ConfigError
from ptystream.sim.diffraction import free_space
from ptystream.sim.electrons import electron_pupil, mass_ratio, wavelength_m

WAVE_M, SIZE = wavelength_m(80e3), 64
PIXEL = (2e-11, 2e-11)


def lens(**changes) -> np.ndarray:
    values = {
        "semi_angle_rad": 25e-3,
        "terms": (),
        "wavelength_m": WAVE_M,
        "pixel_m": PIXEL,
        "size": SIZE,
    }
    return electron_pupil(**(values | changes))


@pytest.mark.parametrize(
    ("kilovolts", "picometres", "mass"),
    # Williams & Carter, Transmission Electron Microscopy, table 1.2.
    [(100, 3.70, 1.196), (120, 3.35, 1.235), (200, 2.51, 1.391), (300, 1.97, 1.587)],
)
def test_wavelength_and_mass_are_relativistic(kilovolts, picometres, mass):
    assert wavelength_m(kilovolts * 1e3) == pytest.approx(picometres * 1e-12, rel=2e-3)
    assert mass_ratio(kilovolts * 1e3) == pytest.approx(mass, rel=1e-3)


def test_the_aperture_has_its_angle_and_unit_power():
    wave = lens()
    assert np.linalg.norm(wave) == pytest.approx(1)
    per_pixel_rad = WAVE_M / (SIZE * PIXEL[0])
    area = (np.abs(wave) / np.abs(wave).max()).sum() * per_pixel_rad**2
    assert area == pytest.approx(np.pi * 25e-3**2, rel=0.01)


def test_defocus_is_free_space():
    away = lens(terms=((1, 0, 10e-9, 0.0),))
    kernel = free_space(SIZE, PIXEL, wavelength_m=WAVE_M, distance_m=10e-9)
    # They differ by 2π z α⁴/8λ, 7·10⁻⁴ rad at the rim.
    assert np.allclose(away, lens() * np.fft.fftshift(kernel), atol=1e-4)


def test_aberrations_have_their_symmetry():
    spherical = lens(terms=((3, 0, 1e-4, 0.0),))
    astigmatic = lens(terms=((1, 2, 5e-9, 0.3),))
    # Without the row and column that have no partner.
    for wave, turned in ((spherical, True), (astigmatic, False)):
        inner = wave[1:, 1:]
        assert np.allclose(inner, inner[::-1, ::-1])
        assert np.allclose(inner, np.rot90(inner)) == turned


def test_a_terms_angle_turns_it():
    quarter = lens(terms=((1, 2, 5e-9, np.pi / 2),))[1:, 1:]
    assert np.allclose(quarter, np.rot90(lens(terms=((1, 2, 5e-9, 0.0),))[1:, 1:]))
    assert np.allclose(quarter, lens(terms=((1, 2, -5e-9, 0.0),))[1:, 1:])


def test_says_when_the_detector_is_too_small():
    with pytest.raises(ConfigError, match=r"angle_rad 0\.2: expected at most 0\.104"):
        lens(semi_angle_rad=0.2)
