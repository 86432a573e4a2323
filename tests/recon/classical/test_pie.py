"""ePIE, rPIE and WASP against their published updates, by loops in numpy."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from ptystream.recon.classical.groups import apart
from ptystream.recon.classical.make import make
from tests.recon.classical.phantom import Scan, decibels, projected, scan, tiny

Scale = Callable[[np.ndarray], np.ndarray]


def order(case: Scan) -> list[int]:
    """Return the order of a first sweep with seed 0."""
    random = torch.Generator().manual_seed(0)
    corners = torch.from_numpy(case.corner_px)
    return [int(i) for i in apart(corners, size=4, group=1, random=random)]


def sequence(case: Scan, of_probe: Scale, of_object: Scale) -> tuple:
    """Return object and probe after one sweep of P*Δψ/of_probe, O*Δψ/of_object.

    And the WASP sums on the way: Σ P*Π(ψ), Σ|P|², Σ O*Π(ψ), Σ|O|².
    """
    made, probe = case.object.copy(), case.probe.copy()
    sums = [np.zeros_like(made), np.zeros(made.shape)]
    sums += [np.zeros_like(probe), np.zeros(probe.shape[1:])]
    for j in order(case):
        y, x = case.corner_px[j]
        at = (slice(y, y + 4), slice(x, x + 4))
        patch, waves = made[at].copy(), probe * made[at]
        revised = projected(waves, case.amplitude[j])
        change = revised - waves
        light = (np.abs(probe) ** 2).sum(0)
        made[at] += (probe.conj() * change).sum(0) / of_probe(light)
        probe = probe + patch.conj() * change / of_object(np.abs(patch) ** 2)
        sums[0][at] += (probe.conj() * revised).sum(0)
        sums[1][at] += (np.abs(probe) ** 2).sum(0)
        sums[2] += patch.conj() * revised
        sums[3] += np.abs(patch) ** 2
    return made, probe, sums


@pytest.mark.parametrize("modes", [1, 2])
def test_epie_is_its_formula(modes: int) -> None:
    case = tiny(modes=modes)
    options = {"object_step": 0.9, "probe_step": 0.7}
    engine = make("epie", case.problem(object=case.start()), **options)
    engine.sweep()
    made, probe, _ = sequence(case, lambda p: p.max() / 0.9, lambda o: o.max() / 0.7)
    np.testing.assert_allclose(engine.object.numpy(), made, atol=1e-12)
    np.testing.assert_allclose(engine.probe.numpy(), probe, atol=1e-12)


@pytest.mark.parametrize("modes", [1, 2])
def test_rpie_is_its_formula(modes: int) -> None:
    case = tiny(modes=modes)
    options = {"object_alpha": 0.1, "probe_alpha": 0.3}
    engine = make("rpie", case.problem(object=case.start()), **options)
    engine.sweep()
    made, probe, _ = sequence(
        case,
        lambda p: 0.9 * p + 0.1 * p.max(),
        lambda o: 0.7 * o + 0.3 * o.max(),
    )
    np.testing.assert_allclose(engine.object.numpy(), made, atol=1e-12)
    np.testing.assert_allclose(engine.probe.numpy(), probe, atol=1e-12)


def test_rpie_with_alpha_1_is_epie() -> None:
    problem = tiny().problem()
    ours = make("rpie", problem, object_alpha=1.0, probe_alpha=1.0)
    theirs = make("epie", problem)
    for _ in range(3):
        assert ours.sweep() == pytest.approx(theirs.sweep())
    torch.testing.assert_close(ours.object, theirs.object)


@pytest.mark.parametrize("modes", [1, 2])
def test_wasp_is_its_formula(modes: int) -> None:
    case = tiny(modes=modes)
    options = {"object_alpha": 1.5, "probe_beta": 0.8}
    engine = make("wasp", case.problem(object=case.start()), **options)
    engine.sweep()
    _, _, sums = sequence(case, lambda p: p + 1.5 * p.mean(), lambda o: o + 0.8)
    lit = sums[1] > 0
    made = np.where(lit, sums[0] / np.where(lit, sums[1], 1), case.object)
    np.testing.assert_allclose(engine.object.numpy()[lit], made[lit], atol=1e-12)
    np.testing.assert_allclose(engine.probe.numpy(), sums[2] / sums[3], atol=1e-12)
    dark = ~lit
    assert dark.any()


def test_a_group_steps_the_object_as_its_members_would_alone() -> None:
    case = scan(lines=4, step=19)
    problem = case.problem()
    alone = make("epie", problem, probe_from=None)
    together = make("epie", problem, probe_from=None, group=8)
    assert alone.sweep() == pytest.approx(together.sweep())
    torch.testing.assert_close(alone.object, together.object)


def test_a_group_gives_the_probe_the_mean_of_its_steps() -> None:
    case = scan(lines=2, step=20)
    problem = case.problem()
    steps = []
    for j in range(4):
        part = Scan(
            case.object,
            case.probe,
            case.corner_px[j : j + 1],
            case.amplitude[j : j + 1],
        )
        engine = make("epie", part.problem())
        engine.sweep()
        steps.append(engine.probe - problem.probe)
    together = make("epie", problem, group=4)
    together.sweep()
    torch.testing.assert_close(together.probe - problem.probe, sum(steps) / 4)


def test_groups_converge_too() -> None:
    case = scan(lines=8, step=4)
    engine = make("rpie", case.problem(), probe_from=None, group=4)
    for _ in range(40):
        engine.sweep()
    assert min(decibels(case, engine)) > 40
