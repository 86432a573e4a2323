import numpy as np
import pytest

from ptystream.errors import ConfigError
from ptystream.sim.probe import ZonePlate, at_specimen, pupil, pupil_modes

PLATE = ZonePlate(diameter_m=150e-6, outer_zone_m=50e-9, stop_m=50e-6)
OPEN = ZonePlate(diameter_m=150e-6, outer_zone_m=50e-9, stop_m=0)
WAVELENGTH_M, PIXEL_M, SIZE = 1.24e-10, 25.8e-9, 64


def wave(plate=PLATE, defocus_m=150e-6, pixel_m=(PIXEL_M, PIXEL_M)):
    return pupil(
        plate,
        defocus_m=defocus_m,
        wavelength_m=WAVELENGTH_M,
        pixel_m=pixel_m,
        size=SIZE,
    )


def frequencies():
    steps = (np.arange(SIZE) - SIZE // 2) / (SIZE * PIXEL_M)
    return steps[:, None], steps[None]


def test_the_pupil_is_an_annulus_of_the_zone_plates_angles():
    radius = np.hypot(*frequencies())
    intensity = np.abs(wave()) ** 2
    lit = intensity > 0.5 * intensity.max()
    rim = 1 / (2 * 50e-9)
    half_pixel = 0.71 / (SIZE * PIXEL_M)
    assert radius[lit].max() == pytest.approx(rim, abs=half_pixel)
    assert radius[lit].min() == pytest.approx(rim / 3, abs=half_pixel)
    assert intensity.sum() == pytest.approx(1)


def test_the_rim_is_soft_and_its_area_right():
    share = np.abs(wave(OPEN)) / np.abs(wave(OPEN)).max()
    area = np.pi * (SIZE * PIXEL_M / (2 * 50e-9)) ** 2
    assert share.sum() == pytest.approx(area, rel=0.005)
    assert np.any((share > 0.1) & (share < 0.9))


def test_oblong_pixels_see_the_same_angles():
    lit = np.abs(wave(OPEN, pixel_m=(PIXEL_M, PIXEL_M * 1.5))) > 0
    tall, wide = np.ptp(np.nonzero(lit.any(1))), np.ptp(np.nonzero(lit.any(0)))
    assert wide == pytest.approx(1.5 * tall, abs=2)


def test_in_focus_the_probe_peaks_on_the_centre_pixel():
    probe = np.abs(at_specimen(wave(OPEN, defocus_m=0)[None])[0])
    assert np.unravel_index(probe.argmax(), probe.shape) == (SIZE // 2, SIZE // 2)


def test_defocus_widens_the_probe_as_geometry_says():
    y, x = frequencies()
    pupil_intensity = np.abs(wave(OPEN)) ** 2
    spread = WAVELENGTH_M * 150e-6 * np.sqrt((pupil_intensity * (y**2 + x**2)).sum())
    probe = np.abs(at_specimen(wave(OPEN)[None])[0]) ** 2
    where = (np.arange(SIZE) - SIZE // 2) * PIXEL_M
    square = where[:, None] ** 2 + where[None] ** 2
    core = square < (10 * PIXEL_M) ** 2  # the rim's rings would weigh too much
    measured = np.sqrt((probe * square)[core].sum() / probe[core].sum())
    assert measured == pytest.approx(spread, rel=0.1)


@pytest.mark.parametrize("defocus_m", [150e-6, -150e-6])
def test_downstream_of_the_focus_the_wave_diverges(defocus_m):
    probe = at_specimen(wave(defocus_m=defocus_m)[None])[0]
    where = np.arange(SIZE) - SIZE // 2
    slopes = np.gradient(probe)
    outward = where[:, None] * slopes[0] + where[None] * slopes[1]
    flow = (probe.conj() * outward).imag.sum()
    assert np.sign(flow) == np.sign(defocus_m)


def test_modes_are_orthogonal_with_the_given_powers():
    powers = (0.6, 0.25, 0.1, 0.05)
    modes = at_specimen(pupil_modes(wave(), powers, photons=1e6))
    flat = modes.reshape(len(powers), -1)
    gram = flat.conj() @ flat.T
    assert np.allclose(gram, np.diag(powers) * 1e6, atol=1e-4)


def test_the_first_mode_is_the_pupil_itself():
    modes = pupil_modes(wave(), (3.0, 1.0), photons=100)
    assert np.allclose(modes[0], wave() * np.sqrt(75))


def test_modes_stay_inside_the_pupil():
    modes = pupil_modes(wave(), (1.0,) * 10, photons=1)
    assert np.abs(modes[:, np.abs(wave()) == 0]).max() < 1e-12


def test_refuses_a_pupil_wider_than_the_detector():
    with pytest.raises(ConfigError, match="outermost zone"):
        wave(ZonePlate(150e-6, 20e-9, 0))


def test_refuses_more_modes_than_polynomials():
    with pytest.raises(ConfigError, match="11 modes"):
        pupil_modes(wave(), (1.0,) * 11, 1)
