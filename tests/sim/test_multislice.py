import numpy as np
import pytest

from ptystream.sim.diffraction import Diffraction, free_space, reader
from ptystream.sim.electrons import electron_pupil, wavelength_m
from ptystream.sim.experiment import build
from ptystream.sim.sample import Canvas
from ptystream.sim.settings import preset
from ptystream.sim.specimen import BAND

WAVE_M, SIZE, PIXEL_M = wavelength_m(80e3), 96, 2e-11
CANVAS = Canvas((160, 160), (PIXEL_M, PIXEL_M), (0.0, 0.0))
CENTRE = (80.0, 80.0)
EMPTY = np.ones((1, *CANVAS.shape), complex)


def lens(defocus_m: float) -> np.ndarray:
    return electron_pupil(
        semi_angle_rad=25e-3,
        terms=((1, 0, defocus_m, 0.0),),
        wavelength_m=WAVE_M,
        pixel_m=(PIXEL_M, PIXEL_M),
        size=SIZE,
    )[None]


def between(distance_m: float, band: float = 1.0) -> np.ndarray:
    return free_space(
        SIZE,
        (PIXEL_M, PIXEL_M),
        wavelength_m=WAVE_M,
        distance_m=distance_m,
        band=band,
    )


def rough(seed: int = 0, strength: float = 0.5) -> np.ndarray:
    """A phase object of low frequencies only."""
    rng = np.random.default_rng(seed)
    spectrum = np.fft.fft2(rng.normal(0, 1, CANVAS.shape))
    y, x = (np.abs(np.fft.fftfreq(n)) < 0.1 for n in CANVAS.shape)
    smooth = np.fft.ifft2(spectrum * (y[:, None] & x[None])).real
    return np.exp(1j * strength * smooth / smooth.std())[None]


def pattern(
    slices: np.ndarray, wave: np.ndarray, step_m: float, band: float = BAND
) -> np.ndarray:
    kernel = between(step_m, band)
    made = Diffraction(slices, CANVAS, wave, between=kernel)
    return made.patterns(np.array([[CENTRE]]) * PIXEL_M)[0]


def test_a_gaussian_beam_widens_as_it_should():
    waist_m, way_m = 1.5e-10, 15e-9
    place = (np.arange(SIZE) - SIZE // 2) * PIXEL_M
    squared = place[:, None] ** 2 + place[None] ** 2
    beam = np.exp(-squared / waist_m**2)
    pupil = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(beam), norm="ortho"))
    empty = np.repeat(EMPTY, 9, axis=0)
    made = Diffraction(empty, CANVAS, pupil[None], between=between(way_m / 8))
    (out,) = made.exit_waves(*CENTRE)
    rayleigh_m = np.pi * waist_m**2 / WAVE_M
    width_m = waist_m * np.sqrt(1 + (way_m / rayleigh_m) ** 2)
    assert width_m > 1.2 * waist_m
    light = (waist_m / width_m) ** 2 * np.exp(-2 * squared / width_m**2)
    assert np.abs(np.abs(out) ** 2 - light).max() < 1e-4
    curved = width_m**2 / waist_m**2 * way_m / (width_m**2 / waist_m**2 - 1)
    turned = np.angle(out * np.exp(-1j * np.pi * squared / (WAVE_M * curved)))
    core = squared < width_m**2
    assert np.ptp(turned[core]) < 0.01


def test_empty_slices_are_defocus():
    # 20 slices of nothing before the object, or a lens that stands so much nearer.
    obj = rough()
    after = np.concatenate([np.repeat(EMPTY, 20, axis=0), obj])
    through = pattern(after, lens(5e-9), 2e-10)
    direct = pattern(obj, lens(5e-9 + 20 * 2e-10), 2e-10)
    assert np.abs(through - direct).max() < 1e-4 * direct.max()
    assert np.abs(pattern(obj, lens(5e-9), 2e-10) - direct).max() > 0.02 * direct.max()


def test_empty_slices_after_the_object_change_nothing():
    obj = rough()
    before = np.concatenate([obj, np.repeat(EMPTY, 5, axis=0)])
    seen, alone = (pattern(s, lens(5e-9), 2e-10, band=1) for s in (before, obj))
    assert np.abs(seen - alone).max() < 1e-12


def test_no_electron_is_lost_in_phase_slices():
    slices = np.concatenate([rough(seed) for seed in range(4)])
    assert pattern(slices, lens(5e-9), 1e-9, band=1).sum() == pytest.approx(1)
    assert pattern(slices, lens(5e-9), 1e-9).sum() == pytest.approx(1, abs=2e-4)


def test_the_first_slice_comes_first():
    one, two = rough(1), rough(2)
    seen = pattern(np.concatenate([one, two]), lens(5e-9), 4e-9)
    turned = pattern(np.concatenate([two, one]), lens(5e-9), 4e-9)
    assert np.abs(seen - turned).max() > 0.1 * seen.max()
    # By hand: wave, first slice, free space by a plain sum over plane waves, second.
    corner = slice(80 - SIZE // 2, 80 + SIZE // 2)
    n = np.arange(SIZE) - SIZE // 2
    kernel = np.exp(-2j * np.pi * np.outer(n, n) / SIZE) / np.sqrt(SIZE)
    probe = kernel.conj() @ lens(5e-9)[0] @ kernel.conj()
    f = n / (SIZE * PIXEL_M)
    turns = -4e-9 * WAVE_M / 2 * (f[:, None] ** 2 + f[None] ** 2)
    middle = kernel @ (probe * one[0, corner, corner]) @ kernel
    late = kernel.conj() @ (middle * np.exp(2j * np.pi * turns)) @ kernel.conj()
    far = kernel @ (late * two[0, corner, corner]) @ kernel
    assert np.abs(np.abs(far) ** 2 - seen).max() < 1e-3 * seen.max()


@pytest.mark.parametrize("wider", [1, 2, 3, 4])
@pytest.mark.parametrize("finer", [1, 2])
def test_a_detector_pixel_takes_the_light_over_its_area(finer, wider):
    rows = reader(16, finer=finer, wider=wider)
    if rows is None:
        assert finer == wider == 1
        return
    assert rows.shape == (16, 16 * finer * wider)
    frequency = (np.arange(rows.shape[1]) - rows.shape[1] // 2) / wider
    # Away from the detector's ends: as much light each, centred where the pixel is.
    inner = rows[1:]
    assert np.allclose(inner.sum(axis=1), wider)
    assert np.allclose(inner @ frequency / wider, np.arange(1, 16) - 8)
    assert rows.sum(axis=0).max() == 1  # no light is counted twice


def test_a_window_that_holds_the_probe_needs_be_no_wider():
    changes = {"scan": {"shape": (1, 2)}, "detector": {"noise": "none"}}
    dose = {"electrons_per_angstrom2": 1e5}
    one, two = (
        next(
            build(
                preset("lattice", {**changes, "optics": dose, "sample": {"wider": w}})
            ).patterns()
        )[0]
        for w in (1, 2)
    )
    # What differs is the blur over a pixel, and the probe's tails beyond the window.
    assert two.sum() == pytest.approx(one.sum(), rel=2e-3)
    assert np.linalg.norm(two - one) < 0.12 * np.linalg.norm(one)


def supersampled(finer: int, sub_slices: int = 4) -> np.ndarray:
    sample = {"finer": finer, "sub_slices": sub_slices}
    settings = preset("lattice", {"scan": {"shape": (1, 2)}, "sample": sample})
    return next(build(settings).patterns())[0]


def test_a_finer_grid_changes_nothing_any_more():
    best = supersampled(4)
    errors = [np.linalg.norm(supersampled(f) - best) for f in (2, 3)]
    assert errors[0] < 5e-3 * np.linalg.norm(best)
    assert errors[1] < errors[0]


def test_nor_do_thinner_slices():
    best = supersampled(2, 32)
    errors = [np.linalg.norm(supersampled(2, s) - best) for s in (1, 4, 8)]
    assert errors[0] > errors[1] > errors[2]
    assert errors[1] < 0.01 * np.linalg.norm(best)
