import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ptystream.physics import probes
from ptystream.physics.geometry import electron_wavelength_m
from ptystream.physics.probes import Aberration, ProbeGrid
from ptystream.physics.propagate import far_field, fourier_shift

XRAY = ProbeGrid((96, 96), (10e-9, 10e-9), 1.24e-10)
ELECTRON = ProbeGrid((128, 128), (2e-11, 2e-11), electron_wavelength_m(80e3))
ZONE_PLATE = {"diameter_m": 150e-6, "outer_zone_m": 50e-9, "stop_m": 60e-6}


def every_probe() -> dict[str, torch.Tensor]:
    pattern = far_field(probes.gaussian((96, 96), 6.0)).abs().square()
    return {
        "zone plate": probes.zone_plate(XRAY, **ZONE_PLATE, defocus_m=20e-6),
        "laue": probes.laue_lenses(XRAY, aperture=(1e-3, 2e-3), defocus_m=(5e-6, 0.0)),
        "electron": probes.electron_aperture(
            ELECTRON, semi_angle_rad=0.02, defocus_m=2e-8
        ),
        "pattern": probes.from_pattern(pattern, XRAY, 10e-6),
        "gaussian": probes.gaussian((96, 96), (6.0, 9.0)),
        "odd": probes.gaussian((95, 97), 6.0),
    }


@pytest.mark.parametrize("name", every_probe())
def test_a_probe_has_unit_energy_is_centred_and_obeys_parseval(name):
    probe = every_probe()[name]
    light = probe.abs().square()
    assert float(light.sum()) == pytest.approx(1)
    assert float(far_field(probe).abs().square().sum()) == pytest.approx(1)
    for axis, n in enumerate(probe.shape):
        line = light.sum(1 - axis)
        centre = float((line * torch.arange(n)).sum())
        assert centre == pytest.approx(n // 2, abs=0.05)


def test_zone_plate_pupil_has_the_radius_and_the_stop_asked_for():
    pupil = far_field(probes.zone_plate(XRAY, **ZONE_PLATE, defocus_m=30e-6)).abs()
    frequency = np.fft.fftshift(np.fft.fftfreq(96, 10e-9))
    radius = np.hypot(frequency[:, None], frequency) / (1 / (2 * 50e-9))
    lit = pupil / pupil.max() > 0.5
    pixel = 1 / (96 * 10e-9) / (1 / (2 * 50e-9))
    inside = (radius > 0.4 + pixel) & (radius < 1 - pixel)
    outside = (radius < 0.4 - pixel) | (radius > 1 + pixel)
    assert lit[torch.from_numpy(inside)].all()
    assert not lit[torch.from_numpy(outside)].any()


def test_zone_plate_in_focus_is_an_airy_disc():
    open_plate = probes.zone_plate(
        ProbeGrid((512, 512), (2e-9, 2e-9), 1.24e-10),
        diameter_m=150e-6,
        outer_zone_m=30e-9,
    )
    line = open_plate.abs()[256, 256:]
    first_zero = int(torch.argmax((line[1:] > line[:-1]).int()))
    assert first_zero * 2e-9 == pytest.approx(1.22 * 30e-9, abs=2e-9)


@pytest.mark.parametrize("defocus_m", [100e-6, -60e-6])
def test_defocus_is_the_analytic_gaussian_beam(defocus_m):
    """from_pattern + defocus against w(z), R(z) of a Gaussian beam."""
    grid = ProbeGrid((256, 256), (10e-9, 10e-9), 1.24e-10)
    waist = 60e-9
    fwhm_px = waist * np.sqrt(2 * np.log(2)) / 10e-9
    focus = probes.gaussian(grid.shape, fwhm_px)
    found = probes.from_pattern(far_field(focus).abs().square(), grid, defocus_m)
    z_r = np.pi * waist**2 / grid.wavelength_m
    r2 = np.add.outer(*[((np.arange(256) - 128) * 10e-9) ** 2] * 2)
    q = defocus_m - 1j * z_r  # exp(+ikz) convention
    beam = np.exp(1j * np.pi / grid.wavelength_m * r2 / q) / q
    beam /= np.linalg.norm(beam)
    assert abs(np.vdot(beam, found.numpy())) == pytest.approx(1, abs=1e-6)
    lobe = beam.conj() * found.numpy()
    assert np.ptp(np.angle(lobe[np.abs(beam) > 0.1 * np.abs(beam).max()])) < 1e-3


def test_laue_pupil_is_a_rectangle_and_each_lens_has_its_own_focus():
    flat = far_field(probes.laue_lenses(XRAY, aperture=(1e-3, 2e-3))).abs()
    lit = flat / flat.max() > 0.5
    pixel = XRAY.wavelength_m / (96 * 10e-9)
    assert int(lit.any(1).sum()) == pytest.approx(2 * 1e-3 / pixel, abs=1)
    assert int(lit.any(0).sum()) == pytest.approx(2 * 2e-3 / pixel, abs=1)

    sharp = probes.laue_lenses(XRAY, aperture=(2e-3, 2e-3)).abs().square()
    half = probes.laue_lenses(XRAY, aperture=(2e-3, 2e-3), defocus_m=(30e-6, 0.0))
    light = half.abs().square()
    assert torch.allclose(light.sum(0), sharp.sum(0), atol=1e-6)  # x still in focus
    assert float(light.sum(1).max()) < 0.5 * float(sharp.sum(1).max())


def test_equal_laue_focuses_are_plain_defocus():
    both = probes.laue_lenses(XRAY, aperture=(1e-3, 1e-3), defocus_m=(2e-5, 2e-5))
    pattern = far_field(probes.laue_lenses(XRAY, aperture=(1e-3, 1e-3)))
    plain = probes.from_pattern(pattern.abs().square(), XRAY, 2e-5)
    assert torch.allclose(both, plain, atol=1e-9)


def test_electron_defocus_has_the_sign_of_free_space():
    aperture = {"semi_angle_rad": 0.02}
    there = probes.electron_aperture(ELECTRON, **aperture, defocus_m=5e-9)
    pattern = far_field(probes.electron_aperture(ELECTRON, **aperture)).abs().square()
    walked = probes.from_pattern(pattern, ELECTRON, 5e-9)
    overlap = (there.conj() * walked).sum()
    assert float(overlap.abs()) == pytest.approx(1, abs=1e-6)


def test_aberrations_have_their_symmetry_and_their_size():
    def phase(term: Aberration) -> torch.Tensor:
        probe = probes.electron_aperture(
            ELECTRON, semi_angle_rad=0.03, aberrations=[term]
        )
        corner = torch.fft.fft2(torch.fft.ifftshift(probe))
        return torch.fft.fftshift(corner)

    angle = ELECTRON.wavelength_m / (128 * 2e-11)  # of one pupil pixel
    at = (64, 64 + 10)
    sphere = phase(Aberration(3, 0, 50e-6))
    chi = 2 * np.pi / ELECTRON.wavelength_m * 50e-6 * (10 * angle) ** 4 / 4
    got = torch.angle(sphere[at] / sphere[64, 64])
    left = torch.remainder(got + chi + np.pi, 2 * np.pi) - np.pi
    assert abs(float(left)) < 1e-6
    astigmatic = phase(Aberration(1, 2, 3e-9))
    along = torch.angle(astigmatic[64, 74] / astigmatic[64, 64])
    across = torch.angle(astigmatic[74, 64] / astigmatic[64, 64])
    assert float(along) == pytest.approx(-float(across))
    assert float(along) == pytest.approx(
        -np.pi / ELECTRON.wavelength_m * 3e-9 * (10 * angle) ** 2
    )
    turned = phase(Aberration(1, 2, 3e-9, np.pi / 4))
    diagonal = torch.angle(turned[71, 71] / turned[64, 64])
    assert float(diagonal) == pytest.approx(
        -np.pi / ELECTRON.wavelength_m * 3e-9 * 98 * angle**2
    )


def test_gaussian_has_the_width_asked_for():
    light = probes.gaussian((128, 128), (10.0, 20.0)).abs().square()
    peak = float(light[64, 64])
    assert float(light[64 + 5, 64]) == pytest.approx(peak / 2)
    assert float(light[64, 64 + 10]) == pytest.approx(peak / 2)


def test_random_is_in_range_and_repeats_by_seed():
    one, again = probes.random((32, 32), 3), probes.random((32, 32), 3)
    assert torch.equal(one, again)
    assert not torch.equal(one, probes.random((32, 32), 4))
    assert float(one.angle().min()) >= 0
    assert 0.95 < float(one.angle().max()) <= 1
    amplitude = one.abs() / one.abs().max()
    assert float(amplitude.mean()) == pytest.approx(0.5, abs=0.03)


@given(st.integers(1, 9), st.floats(0.001, 0.1))
def test_modes_are_orthogonal_with_the_shares_asked_for(modes, share):
    grid = ProbeGrid((48, 48), (10e-9, 10e-9), 1.24e-10)
    probe = 7 * probes.zone_plate(grid, **ZONE_PLATE, defocus_m=5e-6)
    found = probes.with_modes(probe, modes, share)
    gram = torch.einsum("mij,nij->mn", found, found.conj())
    expected = torch.tensor([1 - (modes - 1) * share] + [share] * (modes - 1)) * 49
    wanted = torch.diag(expected).to(gram)
    assert torch.allclose(gram, wanted, atol=1e-9, rtol=1e-6)


def test_first_mode_is_the_probe_and_single_precision_will_do():
    probe = every_probe()["zone plate"].to(torch.complex64)
    found = probes.with_modes(probe, 4)
    assert found.dtype == torch.complex64
    assert torch.allclose(found[0], probe * 0.94**0.5, atol=1e-6)
    gram = torch.einsum("mij,nij->mn", found, found.conj()).abs()
    assert float((gram - torch.diag(gram.diag())).max()) < 1e-6


@pytest.mark.parametrize("shares", [0.5, [0.1], [0.1, 0.1, 0.1]])
def test_shares_that_do_not_fit_are_named(shares):
    with pytest.raises(ValueError, match="shares"):
        probes.with_modes(probes.gaussian((16, 16), 3.0), 3, shares)


def test_second_mode_is_blur_along_x():
    """The probe blurred by a small motion: its first two modes span the mixture."""
    probe = probes.gaussian((64, 64), 8.0)
    offsets = torch.tensor([[0.0, d] for d in (-0.5, 0.0, 0.5)], dtype=torch.float64)
    blurred = fourier_shift(probe[None], offsets).reshape(3, -1)
    basis = probes.with_modes(probe, 2, 0.5 - 1e-9).reshape(2, -1)
    basis = basis / basis.norm(dim=1, keepdim=True)
    inside = (blurred @ basis.conj().T).abs().square().sum(1)
    assert torch.allclose(inside, blurred.abs().square().sum(1), rtol=1e-4)


def test_from_pattern_gives_the_pattern_back_and_keeps_its_precision():
    pattern = torch.rand((32, 48), generator=torch.Generator().manual_seed(0))
    pattern[0, 0] = -1  # as after a background subtraction
    probe = probes.from_pattern(pattern)
    assert probe.dtype == torch.complex64
    expected = pattern.clamp(min=0) / pattern.clamp(min=0).sum()
    assert torch.allclose(far_field(probe).abs().square(), expected, atol=1e-7)


@given(st.floats(1e-3, 1e9))
def test_normalised_energy(energy):
    probe = torch.randn(2, 8, 8, dtype=torch.complex128)
    found = probes.normalised(probe, energy)
    assert float(found.abs().square().sum()) == pytest.approx(energy)


def test_a_dark_probe_is_named():
    with pytest.raises(ValueError, match="dark"):
        probes.normalised(torch.zeros(4, 4, dtype=torch.complex64))
    with pytest.raises(ValueError, match="dark"):
        probes.from_pattern(torch.zeros(4, 4))
