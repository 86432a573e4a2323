"""The first probe, from whatever there is."""

import numpy as np
import pytest
import torch

from ptystream.errors import ConfigError
from ptystream.physics.probes import (
    Aberration,
    ProbeGrid,
    electron_aperture,
    laue_lenses,
    zone_plate,
)
from ptystream.recon.start import from_mean_pattern, from_optics, with_as_many_modes

GRID = ProbeGrid((64, 64), (2.6e-8, 2.6e-8), 1.24e-10)
OPTICS = {
    "kind": "zone_plate",
    "diameter_m": 150e-6,
    "outer_zone_m": 50e-9,
    "stop_m": 50e-6,
    "defocus_m": 100e-6,
}


def test_optics_give_their_probe_and_settings_replace_the_defocus():
    values = {k: v for k, v in OPTICS.items() if k != "kind"}
    torch.testing.assert_close(from_optics(OPTICS, GRID), zone_plate(GRID, **values))
    other = from_optics(OPTICS, GRID, defocus_m=0.0)
    torch.testing.assert_close(other, zone_plate(GRID, **{**values, "defocus_m": 0.0}))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"kind": "mirror"}, "mirror"),
        ({"diameter_m": "wide"}, "wide"),
        ({"outer_zone_m": None}, "outer_zone_m"),
    ],
)
def test_wrong_optics_are_named(change, named):
    with pytest.raises(ConfigError, match=named):
        from_optics({**OPTICS, **change}, GRID)


def test_laue_lenses_have_an_opening_and_a_defocus_each():
    told = {
        "kind": "laue_lenses",
        "aperture_rad": [1e-3, 8e-4],
        "defocus_m": [1e-5, 2e-5],
    }
    made = laue_lenses(GRID, aperture=(1e-3, 8e-4), defocus_m=(1e-5, 2e-5))
    torch.testing.assert_close(from_optics(told, GRID), made)


def test_an_electron_aperture_has_its_aberrations():
    grid = ProbeGrid((64, 64), (2e-11, 2e-11), 4.2e-12)
    told = {
        "kind": "electron_aperture",
        "semi_angle_rad": 0.0249,
        "defocus_m": 5e-9,
        "aberrations": [[1, 2, 3e-9, 0.4], [3, 0, 1e-6]],
    }
    made = electron_aperture(
        grid,
        semi_angle_rad=0.0249,
        defocus_m=5e-9,
        aberrations=[Aberration(1, 2, 3e-9, 0.4), Aberration(3, 0, 1e-6)],
    )
    torch.testing.assert_close(from_optics(told, grid), made)


def test_missing_optics_are_named():
    with pytest.raises(ConfigError, match="outer_zone_m"):
        from_optics({"kind": "zone_plate", "diameter_m": 1e-4}, GRID)


def test_the_mean_pattern_gives_a_probe_that_explains_it():
    patterns = np.random.default_rng(0).poisson(5.0, (6, 32, 32)).astype(np.uint16)
    probe = from_mean_pattern(patterns)
    far = torch.fft.fftshift(torch.fft.fft2(probe, norm="ortho")).abs().square()
    mean = torch.from_numpy(patterns.mean(0))
    torch.testing.assert_close(far / far.sum(), mean / mean.sum())


@pytest.mark.parametrize(("given", "wanted"), [(1, 1), (1, 3), (4, 2)])
def test_modes_are_added_or_left_out(given, wanted):
    g = torch.Generator().manual_seed(0)
    probe = torch.randn(given, 32, 32, generator=g, dtype=torch.complex128)
    made = with_as_many_modes(probe, wanted)
    assert made.shape == (wanted, 32, 32)
    overlap = (made[0].conj() * probe[0]).sum().abs()
    assert overlap == pytest.approx(float(made[0].norm() * probe[0].norm()))
