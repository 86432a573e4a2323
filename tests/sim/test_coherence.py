import numpy as np
import pytest

from ptystream.errors import ConfigError
from ptystream.sim.coherence import source_modes
from ptystream.sim.electrons import electron_pupil, wavelength_m
from ptystream.sim.probe import at_specimen, frequencies

WAVE_M, SIZE, PIXEL = wavelength_m(80e3), 64, (2e-11, 2e-11)
OPTICS = {"wavelength_m": WAVE_M, "pixel_m": PIXEL}


def lens(defocus_m: float = 5e-9) -> np.ndarray:
    terms = ((1, 0, defocus_m, 0.0),)
    return electron_pupil(semi_angle_rad=25e-3, terms=terms, size=SIZE, **OPTICS)


def light(modes: np.ndarray) -> np.ndarray:
    return (np.abs(at_specimen(modes)) ** 2).sum(axis=0)


def test_modes_are_orthogonal_and_in_order():
    modes = source_modes(
        lens(), source_m=4e-11, focal_spread_m=3e-9, modes=6, **OPTICS
    ).reshape(6, -1)
    overlap = modes @ modes.conj().T
    power = np.diag(overlap).real
    assert np.allclose(overlap, np.diag(power), atol=1e-12)
    assert (np.diff(power) <= 1e-12).all()
    assert power.sum() == pytest.approx(1)


def test_a_point_source_of_one_energy_is_the_lens_alone():
    wave = lens()
    (mode,) = source_modes(wave, source_m=0, focal_spread_m=0, modes=1, **OPTICS)
    assert abs(np.vdot(mode, wave)) == pytest.approx(1)


def test_a_source_blurs_the_light_by_its_size():
    source_m = 4e-11
    seen = light(
        source_modes(lens(), source_m=source_m, focal_spread_m=0, modes=32, **OPTICS)
    )
    y, x = frequencies(PIXEL, SIZE)
    blur = np.fft.ifftshift(np.exp(-2 * np.pi**2 * source_m**2 * (y**2 + x**2)))
    expected = np.fft.ifft2(np.fft.fft2(light(lens()[None])) * blur).real
    assert np.abs(seen - expected).max() < 1e-3 * expected.max()


def test_a_spread_of_focus_is_the_mean_over_it():
    seen = light(
        source_modes(lens(), source_m=0, focal_spread_m=4e-9, modes=7, **OPTICS)
    )
    places = np.linspace(-4, 4, 81)
    weights = np.exp(-(places**2) / 2)
    stack = [light(lens(5e-9 + 4e-9 * p)[None]) for p in places]
    expected = np.average(stack, axis=0, weights=weights)
    assert np.abs(seen - expected).max() < 5e-3 * expected.max()


def test_says_when_there_are_no_such_modes():
    with pytest.raises(ConfigError, match="modes 2: expected one, or a source_m"):
        source_modes(lens(), source_m=0, focal_spread_m=0, modes=2, **OPTICS)
