"""AD against autograd on the differentiable forward model, and torch's own Adam."""

import numpy as np
import pytest
import torch

from ptystream.physics.forward import intensity
from ptystream.recon.classical.make import make
from ptystream.recon.classical.problem import Problem
from tests.recon.classical.phantom import noise, tiny


@pytest.mark.parametrize("modes", [1, 2])
def test_ad_is_adam_on_the_gradient_that_autograd_gives(modes: int) -> None:
    case = tiny(modes=modes)
    plain = case.problem(object=case.start())
    beside = torch.tensor([[0.3, -0.2], [0.0, 0.1], [-0.4, 0.2]], dtype=torch.float64)
    problem = Problem(
        amplitude=plain.amplitude,
        corner_px=plain.corner_px + beside,
        probe=plain.probe,
        object=plain.object,
        box=plain.box,
        rescale=False,
    )
    rates = {"object_rate": 0.02, "probe_rate": 0.03}
    engine = make("ad", problem, beta_mean=0.7, beta_square=0.95, **rates)
    assert plain.object is not None
    made = plain.object.clone().requires_grad_()
    probe = plain.probe.clone().requires_grad_()
    peak = float(plain.probe.abs().max())
    adam = torch.optim.Adam(
        [{"params": [made], "lr": 0.02}, {"params": [probe], "lr": 0.03 * peak}],
        betas=(0.7, 0.95),
    )
    power = plain.amplitude.square().sum()
    for _ in range(3):
        adam.zero_grad()
        model = intensity(probe, made[None], problem.corner_px).sqrt()
        loss = 0.5 * (model - plain.amplitude).square().sum()
        loss.backward()
        adam.step()
        assert engine.sweep() == pytest.approx(2 * float(loss.detach() / power))
    lit = made.grad is not None and made.grad != 0
    torch.testing.assert_close(engine.object[lit], made.detach()[lit])
    torch.testing.assert_close(engine.probe, probe.detach())


def test_every_pattern_is_used_once_a_sweep_in_random_batches() -> None:
    rng = np.random.default_rng(0)
    problem = Problem(
        amplitude=torch.from_numpy(1 + rng.random((10, 4, 4))),
        corner_px=torch.zeros(10, 2, dtype=torch.float64),
        probe=torch.from_numpy(noise(rng, (1, 4, 4))),
        rescale=False,
    )
    still = make("ad", problem, batch=3, object_rate=0.0, probe_rate=0.0)
    assert still.sweep() == pytest.approx(still.error())
