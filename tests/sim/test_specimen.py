import numpy as np
import pytest
import torch

from ptystream.errors import ConfigError
from ptystream.physics.forward import intensity
from ptystream.physics.propagate import angular_spectrum
from ptystream.sim.crystals import Area
from ptystream.sim.experiment import Experiment, build
from ptystream.sim.settings import preset
from ptystream.sim.specimen import atoms_of, coarse

SMALL = {"shape": (3, 3), "jitter_m": 0.0}


def made(name: str, **changes) -> Experiment:
    return build(preset(name, {"scan": SMALL, **changes}))


def phase_of(experiment: Experiment) -> np.ndarray:
    return np.angle(experiment.truth.object).sum(axis=0)


def strongest_period_m(experiment: Experiment) -> float:
    """Period of the strongest line in the phase's spectrum."""
    phase = phase_of(experiment)
    window = np.outer(*(np.hanning(n) for n in phase.shape))
    spectrum = np.abs(np.fft.fft2((phase - phase.mean()) * window, s=(1024, 1024)))
    y, x = np.unravel_index(np.argmax(spectrum), spectrum.shape)
    f = np.fft.fftfreq(1024, experiment.truth.pixel_m[0])
    return 1 / np.hypot(f[y], f[x])


@pytest.mark.parametrize(
    ("name", "a_m"), [("lattice", 3.160e-10), ("bilayer", 3.282e-10)]
)
def test_a_layers_truth_has_the_lattice_constant(name, a_m):
    experiment = made(name, sample={"layers": 1, "vacancies": 0.0})
    lines_m = [a_m * np.sqrt(3) / 2, a_m / 2]  # {100} and {110}
    period_m = strongest_period_m(experiment)
    assert min(abs(period_m / d - 1) for d in lines_m) < 0.02


def test_a_particles_truth_shows_gold():
    experiment = made("nanoparticle", scan={"shape": (18, 18), "jitter_m": 0.0})
    phase = phase_of(experiment)
    assert 2 < phase.max() < np.pi  # a single slice can hold it
    # {111} lies 2.355 Å apart, {200} 2.039 Å.
    period_m = strongest_period_m(experiment)
    assert min(abs(period_m / d - 1) for d in (2.355e-10, 2.039e-10)) < 0.02
    middle, rim = phase[90:130, 90:130].mean(), phase[:30].mean()
    assert middle > rim + 0.1  # the particle's bulk, not its columns alone


def test_a_bilayers_truth_is_two_layers_seven_angstroms_apart():
    experiment = made("bilayer")
    assert experiment.truth.object.shape[0] == 16
    assert experiment.truth.slice_m == 1e-10
    mean = np.angle(experiment.truth.object).mean(axis=(1, 2))
    depth = np.arange(16)
    first, second = (
        np.average(depth[part], weights=mean[part])
        for part in (slice(0, 8), slice(8, 16))
    )
    assert second - first == pytest.approx(7, abs=0.05)
    assert mean[[0, 15]].max() < 0.02 * mean.max()  # nothing at the surfaces


def test_its_layers_are_turned_against_each_other():
    settings = preset("bilayer", {"sample": {"twist_rad": 0.1, "turn_rad": 0.0}})
    area = Area((-2e-9, -2e-9), (2e-9, 2e-9))
    metal = atoms_of(settings.sample, area, seed=1)["W"]
    angles = []
    for z in np.unique(metal[:, 0]):
        layer = metal[metal[:, 0] == z]
        middle = layer[np.argmin(np.linalg.norm(layer[:, 1:], axis=1))]
        apart = (layer - middle)[:, 1:]
        near = apart[np.abs(np.linalg.norm(apart, axis=1) - 3.282e-10) < 1e-13]
        angles.append(np.sort(np.arctan2(near[:, 0], near[:, 1]) % (np.pi / 3))[0])
    assert np.diff(angles) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("name", "error"), [("lattice", 0.02), ("nanoparticle", 0.06), ("bilayer", 0.015)]
)
def test_the_solvers_model_of_the_truth_explains_the_patterns(name, error):
    """Two forward models that share no code: signs, order and planes all agree."""
    experiment = made(name)
    truth, size = experiment.truth, truth_size(experiment)
    seen = np.sqrt(next(experiment.patterns()))
    corners = (truth.positions_m - truth.origin_m) / truth.pixel_m - size // 2

    def misfit(obj: np.ndarray) -> float:
        modelled = intensity(
            torch.from_numpy(truth.probe),
            torch.from_numpy(obj),
            torch.from_numpy(corners).float(),
            between=angular_spectrum(
                (size, size),
                wavelength_m=experiment.geometry.wavelength_m,
                distance_m=truth.slice_m or 0.0,
                pixel_m=truth.pixel_m,
            ),
        )
        return np.linalg.norm(modelled.sqrt().numpy() - seen) / np.linalg.norm(seen)

    assert misfit(truth.object) < error
    assert misfit(truth.object.conj()) > 3 * error
    if len(truth.object) > 1:
        assert misfit(truth.object[::-1].copy()) > 1.5 * misfit(truth.object)


def truth_size(experiment: Experiment) -> int:
    return experiment.truth.probe.shape[-1]


def test_the_coarse_image_is_the_fine_one_without_high_frequencies():
    fine = np.indices((64, 96)) / np.array([64, 96])[:, None, None]
    slow = np.cos(2 * np.pi * (3 * fine[0] - 5 * fine[1]))
    fast = np.cos(2 * np.pi * 40 * fine[1])
    found = coarse(slow + fast, (32, 48))
    assert np.allclose(found, slow[::2, ::2])


def test_refuses_a_specimen_beyond_memory():
    with pytest.raises(ConfigError, match=r"specimen of 4096 slices .* GiB, expected"):
        made("bilayer", sample={"sub_slices": 256, "finer": 4})


def test_a_seed_repeats_the_specimen():
    one, two, other = (
        phase_of(made("lattice", seed=s, sample={"vacancies": 0.2})) for s in (1, 1, 2)
    )
    assert np.array_equal(one, two)
    assert not np.array_equal(one, other)
