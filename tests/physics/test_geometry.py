import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptystream.physics import geometry as g
from ptystream.wire.messages import PLANCK_EV_M, Geometry


def test_known_wavelengths():
    assert g.photon_wavelength_m(10e3) == pytest.approx(1.23984e-10, rel=1e-5)
    # Electron microscopy tables: 4.1757 pm at 80 kV, 2.5079 pm at 200, 1.9687 at 300.
    assert g.electron_wavelength_m(80e3) == pytest.approx(4.1757e-12, rel=1e-4)
    assert g.electron_wavelength_m(200e3) == pytest.approx(2.5079e-12, rel=1e-4)
    assert g.electron_wavelength_m(300e3) == pytest.approx(1.9687e-12, rel=1e-4)


def test_slow_electrons_are_classical():
    classical = 1.226426e-9  # h / √(2 m e · 1 V)
    assert g.electron_wavelength_m(1.0) == pytest.approx(classical, rel=1e-5)


@pytest.mark.parametrize("energy", [0.0, -1.0, float("nan")])
def test_an_energy_that_is_not_positive_is_named(energy):
    with pytest.raises(ValueError, match="energy_ev"):
        g.photon_wavelength_m(energy)
    with pytest.raises(ValueError, match="energy_ev"):
        g.electron_wavelength_m(energy)


def test_the_constant_and_the_pixel_are_those_of_the_messages():
    assert g.HC_EV_M == PLANCK_EV_M
    there = Geometry(1e-10, 2.0, (75e-6, 55e-6)).object_pixel_m((128, 256))
    assert g.object_pixel_m(1e-10, 2.0, (75e-6, 55e-6), (128, 256)) == there


@given(st.floats(1e-6, 1e-3), st.floats(0.1, 10))
def test_pixels_from_angle_and_from_length_agree_for_small_angles(pixel_m, distance_m):
    angle = (pixel_m / distance_m, pixel_m / distance_m)
    by_angle = g.object_pixel_from_angle_m(1e-10, angle, (64, 64))
    by_length = g.object_pixel_m(1e-10, distance_m, (pixel_m, pixel_m), (64, 64))
    assert by_angle == pytest.approx(by_length)


def test_depth_of_field_is_wavelength_over_aperture_squared():
    wavelength, resolution = 1e-10, 10e-9
    aperture = wavelength / (2 * resolution)
    depth = g.depth_of_field_m(resolution, wavelength)
    assert depth == pytest.approx(wavelength / aperture**2)


def test_overlap_may_be_negative():
    assert g.overlap(3.0, 5.0) == pytest.approx(0.4)
    assert g.overlap(32.0, 5.0) == pytest.approx(-5.4)
    assert g.overlap(45.0, 5.0) == pytest.approx(-8.0)
    with pytest.raises(ValueError, match="extent_m"):
        g.overlap(3.0, 0.0)


def test_fresnel_number_and_zone_plate():
    assert g.fresnel_number(1e-6, 1e-10, 1.0) == pytest.approx(0.01)
    assert g.zone_plate_aperture(30e-9, 1.2e-10) == pytest.approx(2e-3)
