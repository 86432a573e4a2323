"""DM, RAAR and APG against their formulas, by loops in numpy; their fixed points."""

from typing import Any

import numpy as np
import pytest
import torch

from ptystream.errors import ConfigError
from ptystream.physics.forward import intensity
from ptystream.recon.classical.apg import APG, Proximal
from ptystream.recon.classical.make import make
from ptystream.recon.classical.options import ApgOptions
from ptystream.recon.classical.overlap import Overlapping
from ptystream.recon.classical.problem import Problem
from tests.recon.classical.phantom import Scan, noise, projected, scan, tiny


def all_measured(case: Scan, waves: np.ndarray) -> np.ndarray:
    """Return Π_F of every pattern."""
    pairs = zip(waves, case.amplitude, strict=True)
    return np.array([projected(w, a) for w, a in pairs])


class Shared:
    """Π_O by loops: object, then probe, each once; remembers both."""

    def __init__(self, case: Scan) -> None:
        self.case, self.object, self.probe = case, case.object.copy(), case.probe.copy()

    def __call__(self, waves: np.ndarray) -> np.ndarray:
        places = [(slice(y, y + 4), slice(x, x + 4)) for y, x in self.case.corner_px]
        total, light = np.zeros_like(self.object), np.zeros(self.object.shape)
        for at, psi in zip(places, waves, strict=True):
            total[at] += (self.probe.conj() * psi).sum(0)
            light[at] += (np.abs(self.probe) ** 2).sum(0)
        lit = light > 0
        self.object[lit] = total[lit] / light[lit]
        cut = np.array([self.object[at] for at in places])[:, None]
        self.probe = (cut.conj() * waves).sum(0) / (np.abs(cut) ** 2).sum(0)
        return self.probe * cut


def begin(name: str, case: Scan, **options: Any) -> tuple[Overlapping, np.ndarray]:
    """Return an engine that starts from other waves than its own, and those waves."""
    problem = case.problem(object=case.start())
    engine = make(name, problem, inertia=0.0, batch=2, **options)
    assert isinstance(engine, Overlapping)
    waves = noise(np.random.default_rng(7), tuple(engine.waves.shape))
    engine.waves = torch.from_numpy(waves.copy())
    return engine, waves


@pytest.mark.parametrize("modes", [1, 2])
def test_dm_is_its_formula(modes: int) -> None:
    case = tiny(modes=modes)
    engine, waves = begin("dm", case)
    shared = Shared(case)
    for _ in range(2):
        engine.sweep()
        overlap = shared(waves)
        waves = waves + all_measured(case, 2 * overlap - waves) - overlap
    np.testing.assert_allclose(engine.waves.numpy(), waves, atol=1e-10)
    np.testing.assert_allclose(engine.object.numpy(), shared.object, atol=1e-10)
    np.testing.assert_allclose(engine.probe.numpy(), shared.probe, atol=1e-10)


@pytest.mark.parametrize("inner", [1, 3])
def test_a_projection_alternates_object_and_probe_so_often(inner: int) -> None:
    case = tiny()
    engine, waves = begin("dm", case, inner=inner)
    shared = Shared(case)
    engine.project(torch.from_numpy(waves))
    for _ in range(inner):
        shared(waves)
    np.testing.assert_allclose(engine.object.numpy(), shared.object, atol=1e-10)
    np.testing.assert_allclose(engine.probe.numpy(), shared.probe, atol=1e-10)


@pytest.mark.parametrize("alpha", [0.0, 0.6])
def test_dm_with_less_reflection_is_its_formula(alpha: float) -> None:
    case = tiny()
    engine, waves = begin("dm", case, alpha=alpha)
    engine.sweep()
    overlap = Shared(case)(waves)
    mirrored = (1 + alpha) * overlap - alpha * waves
    expected = waves + all_measured(case, mirrored) - overlap
    np.testing.assert_allclose(engine.waves.numpy(), expected, atol=1e-10)


def test_apg_without_momentum_is_the_plain_proximal_gradient() -> None:
    case = tiny()
    engine = make("apg", case.problem(object=case.start()), momentum=False, inertia=0.0)
    assert isinstance(engine, APG)
    shared, now = Shared(case), engine.waves.numpy().copy()
    for _ in range(3):
        engine.sweep()
        now = likely(case, shared(now), "poisson", 1.0)
    np.testing.assert_allclose(engine.waves.numpy(), now, atol=1e-10)


@pytest.mark.parametrize("beta", [0.75, 1.0])
@pytest.mark.parametrize("modes", [1, 2])
def test_raar_is_its_formula(modes: int, beta: float) -> None:
    case = tiny(modes=modes)
    engine, waves = begin("raar", case, beta=beta)
    shared = Shared(case)
    for _ in range(2):
        engine.sweep()
        measured = all_measured(case, waves)
        mirrored = 2 * measured - waves
        reflected = 2 * shared(mirrored) - mirrored
        waves = beta / 2 * (reflected + waves) + (1 - beta) * measured
    np.testing.assert_allclose(engine.waves.numpy(), waves, atol=1e-10)


def test_raar_with_beta_1_is_the_difference_map_with_its_projections_exchanged() -> (
    None
):
    case = tiny()
    engine, waves = begin("raar", case, beta=1.0)
    engine.sweep()
    measured = all_measured(case, waves)
    exchanged = waves + Shared(case)(2 * measured - waves) - measured
    np.testing.assert_allclose(engine.waves.numpy(), exchanged, atol=1e-10)


@pytest.mark.parametrize("noise_kind", ["exact", "gaussian", "poisson"])
def test_apg_is_its_formula(noise_kind: str) -> None:
    case = tiny()
    options = {"noise": noise_kind, "weight": 2.0, "step": 0.8}
    engine = make("apg", case.problem(object=case.start()), inertia=0.0, **options)
    assert isinstance(engine, APG)
    shared, now = Shared(case), engine.waves.numpy().copy()
    before, momenta = now, []
    for i in range(4):
        momenta.append(engine.momentum)
        engine.sweep()
        ahead = now + i / (i + 3) * (now - before)
        down = ahead - 0.8 * (ahead - shared(ahead))
        before, now = now, likely(case, down, noise_kind, 2.0)
    assert momenta == [0, 1 / 4, 2 / 5, 3 / 6]
    np.testing.assert_allclose(engine.waves.numpy(), now, atol=1e-10)


def likely(case: Scan, waves: np.ndarray, kind: str, weight: float) -> np.ndarray:
    """Return the proximal map of all patterns, by its formulas."""
    far = np.fft.fftshift(np.fft.fft2(waves, norm="ortho"), axes=(-2, -1))
    m, seen = np.abs(far), case.amplitude[:, None]
    w = weight
    a = {
        "exact": seen,
        "gaussian": (m + w * seen) / (1 + w),
        "poisson": (m + np.sqrt(m**2 + 8 * w * (1 + 2 * w) * seen**2)) / (2 + 4 * w),
    }[kind]
    return np.fft.ifft2(np.fft.ifftshift(far * a / m, axes=(-2, -1)), norm="ortho")


@pytest.mark.parametrize("noise_kind", ["gaussian", "poisson"])
def test_the_proximal_amplitude_is_the_least_of_what_it_minimises(
    noise_kind: str,
) -> None:
    model, seen, weight = 1.3, 2.1, 0.6
    grid = np.linspace(1e-3, 4, 400_001)
    loss = {
        "gaussian": (grid - seen) ** 2 / 2,
        "poisson": grid**2 - seen**2 * np.log(grid**2),
    }[noise_kind]
    best = grid[np.argmin((grid - model) ** 2 / 2 + weight * loss)]
    options = ApgOptions(noise=noise_kind, weight=weight)  # type: ignore[arg-type]
    got = Proximal(options)(torch.tensor([[[model]]]), torch.tensor([[[seen]]]))
    assert float(got) == pytest.approx(best, abs=2e-5)


@pytest.mark.parametrize("name", ["dm", "raar", "apg"])
@pytest.mark.parametrize("subpixel", [False, True])
def test_a_solution_stays_where_it_is(name: str, subpixel: bool) -> None:
    case = scan(lines=3)
    problem = solved(case, 0.3 if subpixel else 0.0)
    engine = make(name, problem)
    assert isinstance(engine, Overlapping)
    waves = engine.waves.clone()
    for _ in range(3):
        assert engine.sweep() < 1e-24
    torch.testing.assert_close(engine.waves, waves)
    torch.testing.assert_close(engine.object, problem.object)
    torch.testing.assert_close(engine.probe, problem.probe)


@pytest.mark.parametrize("name", ["epie", "rpie", "wasp"])
@pytest.mark.parametrize("subpixel", [False, True])
def test_a_solution_stays_in_sequence_too(name: str, subpixel: bool) -> None:
    case = scan(lines=3)
    problem = solved(case, 0.3 if subpixel else 0.0)
    engine = make(name, problem)
    assert engine.sweep() < 1e-24
    torch.testing.assert_close(engine.probe, problem.probe)


def solved(case: Scan, beside_px: float) -> Problem:
    """Return a problem that begins at its solution, with positions beside the grid."""
    plain = case.problem(object=case.start())
    assert plain.object is not None
    rng = np.random.default_rng(5)
    beside = beside_px * (2 * rng.random(case.corner_px.shape) - 1)
    corner = torch.from_numpy(case.corner_px + beside)
    seen = intensity(plain.probe, plain.object[None], corner).sqrt()
    return Problem(
        amplitude=seen,
        corner_px=corner,
        probe=plain.probe,
        object=plain.object,
        rescale=False,
        box=plain.box,
    )


def test_the_waves_do_not_depend_on_the_batches() -> None:
    case = scan(lines=3)
    problem = case.problem()
    whole, parts = (make("dm", problem, batch=size) for size in (100, 2))
    for _ in range(3):
        assert whole.sweep() == pytest.approx(parts.sweep())
    torch.testing.assert_close(whole.object, parts.object)


def test_an_unknown_noise_and_no_inner_loop_are_refused() -> None:
    problem = tiny().problem()
    with pytest.raises(ConfigError, match="noise"):
        make("apg", problem, noise="pink")
    with pytest.raises(ConfigError, match="inner"):
        make("dm", problem, inner=0)
