import numpy as np
import pytest

from ptystream.sim.atoms import GAUSSIANS, slice_phases
from ptystream.sim.electrons import mass_ratio, wavelength_m
from ptystream.sim.sample import Canvas

VOLTS = 200e3
LENGTH_M = mass_ratio(VOLTS) * wavelength_m(VOLTS)
"""γλ: phase times area over scattering length."""
PIXEL_M, SIDE = 1e-11, 200
CANVAS = Canvas((SIDE, SIDE), (PIXEL_M, PIXEL_M), (3e-9, -2e-9))
MIDDLE = np.array([0.0, 3e-9 + 100 * PIXEL_M, -2e-9 + 100 * PIXEL_M])
WARM_M = 1e-11
THICK = np.array([-1e-9, 1e-9])


def phases(atoms, edges_m=THICK, canvas=CANVAS, thermal_m=0.0) -> np.ndarray:
    return slice_phases(
        atoms,
        canvas,
        edges_m,
        wavelength_m=wavelength_m(VOLTS),
        mass_ratio=mass_ratio(VOLTS),
        thermal_m=thermal_m,
    )


@pytest.mark.parametrize("element", GAUSSIANS)
def test_an_atom_holds_its_scattering_length(element):
    (seen,) = phases({element: MIDDLE[None]})
    total = seen.sum() * PIXEL_M**2
    # The canvas ends 10 Å away, where 10⁻³ of it may be left out.
    assert total == pytest.approx(
        LENGTH_M * 1e-10 * sum(GAUSSIANS[element][0]), rel=1e-3
    )


def test_scattering_lengths_are_those_of_the_tables():
    found = {name: sum(a) for name, (a, _) in GAUSSIANS.items()}
    # International Tables C 4.3.1.1, f(0) in Å, by Hartree-Fock: other calculations.
    tables = {"C": 2.51, "S": 5.16, "Se": 7.20, "Mo": 10.26, "Au": 10.57}
    assert {n: found[n] for n in tables} == pytest.approx(tables, rel=0.01)


def test_its_spectrum_is_the_scattering_factor():
    # Vibration keeps it within the grid's band: 10⁻³ of a cold atom would come back.
    (seen,) = phases({"Au": MIDDLE[None]}, thermal_m=WARM_M)
    line = np.abs(np.fft.fft(seen.sum(axis=0)))[:40] * PIXEL_M**2
    half = np.fft.fftfreq(SIDE, PIXEL_M * 1e10)[:40] / 2
    a, b = (np.array(row)[:, None] for row in GAUSSIANS["Au"])
    b = b + 8 * np.pi**2 * (WARM_M * 1e10) ** 2
    expected = LENGTH_M * 1e-10 * (a * np.exp(-b * half**2)).sum(axis=0)
    assert np.allclose(line, expected, rtol=2e-3, atol=1e-3 * expected[0])


def test_warm_atoms_are_wider_by_their_vibration():
    atom = {"W": MIDDLE[None]}
    cold, warm = (
        phases(atom, thermal_m=u)[0] for u in (WARM_M, np.hypot(WARM_M, 2e-11))
    )
    frequency = np.fft.fftfreq(SIDE, PIXEL_M)[:20]
    ratio = np.fft.fft(warm.sum(axis=0))[:20] / np.fft.fft(cold.sum(axis=0))[:20]
    expected = np.exp(-2 * (np.pi * 2e-11 * frequency) ** 2)
    assert np.allclose(ratio.real, expected, atol=1e-3)


def test_slices_share_an_atom_evenly():
    edges = np.linspace(-3e-10, 3e-10, 13)
    seen = phases({"Se": MIDDLE[None]}, edges)
    whole = phases({"Se": MIDDLE[None]})[0]
    assert np.allclose(seen.sum(axis=0), whole, atol=1e-3 * whole.max())
    assert np.allclose(seen, seen[::-1])  # it lies in the middle, on an edge
    shares = seen.sum(axis=(1, 2)) / seen.sum()
    assert (np.diff(shares[:6]) > 0).all()
    # Its widest Gaussian, σ² = b/8π², is 0.81 Å; the mean of σ² by a is 0.20 Å².
    a, b = (np.array(row) for row in GAUSSIANS["Se"])
    depth = (shares * (edges[1:] - 2.5e-11) ** 2).sum()
    assert depth == pytest.approx(
        1e-20 * (a * b).sum() / a.sum() / (8 * np.pi**2), rel=0.02
    )


def test_an_atom_lies_where_it_is():
    at = MIDDLE + np.array([0, 3.3e-10, -2.7e-10])
    (seen,) = phases({"C": at[None]})
    y, x = np.indices(seen.shape) * PIXEL_M
    where = [(seen * p).sum() / seen.sum() for p in (y, x)]
    assert np.allclose(where, at[1:] - CANVAS.origin_m, atol=PIXEL_M / 10)


def test_many_atoms_are_the_sum_of_each():
    rng = np.random.default_rng(0)
    at = np.column_stack([np.zeros(600), rng.uniform(0, 2e-9, (600, 2))])
    at[:, 1:] += CANVAS.origin_m
    together = phases({"C": at[:300], "S": at[300:]})
    one_by_one = sum(
        phases({name: row[None]})
        for name, part in (("C", at[:300]), ("S", at[300:]))
        for row in part
    )
    assert np.allclose(together, one_by_one, atol=1e-6)
