"""What every engine keeps to: convergence, a held probe, finite state, its options."""

import dataclasses

import numpy as np
import pytest
import torch

from ptystream.errors import ConfigError
from ptystream.models.field import Box
from ptystream.recon.classical.engine import Engine
from ptystream.recon.classical.make import NAMES, make
from ptystream.recon.classical.problem import Problem
from tests.recon.classical.phantom import decibels, lens, noise, scan, tiny

CASE = scan()
SWEEPS = {"epie": 40, "rpie": 25, "wasp": 25}
"""The others take 150 sweeps in the time of 30 of these."""

# In dB, the worse of amplitude and phase: 4 dB or more below what was measured.
KNOWN = {
    "epie": 29, "rpie": 40, "wasp": 65, "dm": 70, "raar": 130, "apg": 95, "ad": 60
}  # fmt: skip
WRONG = {
    "epie": 33, "rpie": 41, "wasp": 40, "dm": 52, "raar": 55, "apg": 55, "ad": 52
}  # fmt: skip


def swept(engine: Engine, name: str) -> Engine:
    for _ in range(SWEEPS.get(name, 150)):
        engine.sweep()
    return engine


@pytest.mark.parametrize("name", NAMES)
def test_with_the_probe_known_the_object_is_found(name: str) -> None:
    engine = swept(make(name, CASE.problem(), probe_from=None), name)
    assert min(decibels(CASE, engine)) > KNOWN[name]
    assert torch.equal(engine.probe, CASE.problem().probe)


@pytest.mark.parametrize("name", NAMES)
def test_with_a_wrong_defocus_object_and_probe_are_found(name: str) -> None:
    problem = CASE.problem(lens(16, 1.6)[None])
    flat = make(name, problem)
    engine = swept(make(name, problem), name)
    assert min(decibels(CASE, engine)) > WRONG[name]
    assert engine.error() < 2e-2 * flat.error()
    assert alike(engine.probe, CASE.probe) > 0.995 > alike(flat.probe, CASE.probe)


def alike(probe: torch.Tensor, truth: np.ndarray) -> float:
    """Return the correlation of the modulus, 0 to 1, which no phase ramp touches."""
    a, b = np.abs(probe.numpy()), np.abs(truth)
    return float((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.mark.parametrize("name", NAMES)
def test_two_modes_explain_a_mixture_that_one_cannot(name: str) -> None:
    y, x = np.mgrid[:16, :16] - 8
    second = 0.5 * lens(16, 1.0) * (x + 1j * y) / 4
    probe = np.stack([lens(16, 1.0), second])
    problem = mixed(probe)
    one = swept(make(name, dataclasses.replace(problem, probe=problem.probe[:1])), name)
    two = swept(make(name, problem), name)
    assert two.error() < 0.5 * one.error()


def mixed(probe: np.ndarray) -> Problem:
    corners = CASE.corner_px
    cut = np.array([CASE.object[y : y + 16, x : x + 16] for y, x in corners])[:, None]
    far = np.fft.fftshift(np.fft.fft2(probe * cut, norm="ortho"), axes=(-2, -1))
    plain = CASE.problem(probe)
    seen = torch.from_numpy(np.sqrt((np.abs(far) ** 2).sum(1)))
    return dataclasses.replace(plain, amplitude=seen)


@pytest.mark.parametrize("name", NAMES)
def test_single_precision_gives_the_same(name: str) -> None:
    # Not from an empty object: its dark pixels have no phase, but in round-off.
    start = CASE.start() + 0.1 * torch.from_numpy(rough(CASE.object.shape))
    plain = CASE.problem(lens(16, 1.6)[None], object=start)
    single = dataclasses.replace(
        plain, amplitude=plain.amplitude.float(), probe=plain.probe.to(torch.complex64)
    )
    fine, coarse = make(name, plain), make(name, single)
    for _ in range(5):
        assert coarse.sweep() == pytest.approx(fine.sweep(), rel=1e-3)
    assert coarse.object.dtype == torch.complex64


def rough(shape: tuple[int, ...]) -> np.ndarray:
    return noise(np.random.default_rng(0), shape)


@pytest.mark.parametrize("name", NAMES)
def test_the_probe_is_held_until_its_sweep(name: str) -> None:
    engine = make(name, CASE.problem(lens(16, 1.6)[None]), probe_from=2)
    given = engine.probe.clone()
    engine.sweep()
    engine.sweep()
    assert torch.equal(engine.probe, given)
    engine.sweep()
    assert not torch.allclose(engine.probe, given)


@pytest.mark.parametrize("name", NAMES)
def test_pixels_that_do_not_count_do_no_harm(name: str) -> None:
    problem = CASE.problem()
    problem.amplitude[3, 4, 5] = torch.nan
    problem.amplitude[:, 8, 9] = 1e6
    mask = torch.ones(16, 16, dtype=torch.bool)
    mask[8, 9] = False
    masked = dataclasses.replace(problem, mask=mask)
    engine = swept(make(name, masked, probe_from=None), name)
    assert engine.refused == 0
    assert min(decibels(CASE, engine)) > 25


@pytest.mark.parametrize("name", NAMES)
def test_a_sweep_that_is_not_finite_is_undone_and_counted(name: str) -> None:
    engine = make(name, CASE.problem())
    engine.sweep()
    made, probe = engine.object.clone(), engine.probe.clone()
    seen = engine.optics.power.clone()
    measured = vars(engine.optics)["_measured"]
    kept = measured[7].clone()
    measured[7] = torch.inf
    assert np.isnan(engine.sweep())
    assert (engine.refused, engine.sweeps) == (1, 1)
    assert torch.equal(engine.object, made)
    assert torch.equal(engine.probe, probe)
    measured[7] = kept
    assert [engine.sweep() for _ in range(10)][-1] < 0.05
    assert torch.equal(engine.optics.power, seen)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_dark_stays_as_it_was(name: str) -> None:
    scan_ = tiny()
    start = scan_.start()
    problem = scan_.problem(object=start)
    engine = make(name, problem)
    for _ in range(3):
        engine.sweep()
    assert torch.equal(engine.object[0, 4:], start[0, 4:])
    assert not torch.allclose(engine.object[0, :4], start[0, :4])


def test_the_ceiling_clips_the_amplitude() -> None:
    engine = make("epie", CASE.problem(), ceiling=0.8)
    engine.sweep()
    assert float(engine.object.abs().max()) == pytest.approx(0.8)


def test_the_probe_is_brought_to_the_light_of_the_data() -> None:
    dim = make("epie", CASE.problem(CASE.probe * 1e-3, rescale=True))
    light = CASE.amplitude**2
    assert float(dim.probe.abs().square().sum()) == pytest.approx(light.sum() / 36)
    flat = make("epie", CASE.problem(CASE.probe * 1e-3))
    torch.testing.assert_close(flat.probe, torch.from_numpy(CASE.probe * 1e-3))


def test_the_problem_is_left_as_it_was() -> None:
    problem = CASE.problem(object=CASE.start())
    for name in NAMES:
        make(name, problem).sweep()
    assert problem.object is not None
    assert torch.equal(problem.object, CASE.start())
    assert torch.equal(problem.probe, torch.from_numpy(CASE.probe))
    assert torch.equal(problem.amplitude, torch.from_numpy(CASE.amplitude))


def test_the_canvas_may_begin_anywhere() -> None:
    plain = CASE.problem()
    away = dataclasses.replace(
        plain,
        corner_px=plain.corner_px - 1000,
        box=Box(-1000, -1000, *CASE.object.shape),
    )
    here, there = make("rpie", plain), make("rpie", away)
    assert here.sweep() == there.sweep()
    assert torch.equal(here.object, there.object)


def test_unknown_names_and_options_are_refused() -> None:
    problem = tiny().problem()
    with pytest.raises(ConfigError, match="expected one of epie"):
        make("epi", problem)
    with pytest.raises(ConfigError, match="epie has no beta"):
        make("epie", problem, beta=1.0)
    with pytest.raises(ConfigError, match="batch 0"):
        make("dm", problem, batch=0)
