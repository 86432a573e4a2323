"""As the papers' code learns: torch's Adam with a rate each net, plain gradients."""

import numpy as np
import pytest
import torch

from ptystream.models.field import Box
from ptystream.models.hashgrid import HashGrid
from ptystream.models.siren import Siren
from ptystream.recon.build import object_learner, probe_learner
from ptystream.recon.engine import Rates
from ptystream.recon.learners import NeuralLearner
from ptystream.recon.networks import network_learner
from ptystream.recon.options import (
    EngineOptions,
    HashGridOptions,
    ObjectOptions,
    ProbeOptions,
    ReconOptions,
)
from ptystream.recon.published import PublishedLearner
from tests.recon.general_scan import GeneralScan, run

BOX = Box(0, 0, 6, 7)
YES, NO = torch.tensor(True), torch.tensor(False)
FLAT = torch.ones(6, 7)


def copies(field: torch.nn.Module, make) -> torch.nn.Module:
    other = make()
    other.load_state_dict(field.state_dict())
    return other


@pytest.mark.parametrize(
    "make",
    [
        lambda: Siren(width=8, hidden=1),
        lambda: HashGrid(size_px=8, levels=2, table=64, width=8, peak=None),
    ],
)
def test_four_optimisers_are_one_with_a_rate_for_each_net(make):
    ours, theirs = make(), None
    theirs = copies(ours, make)
    learner = PublishedLearner(ours, rate=1e-3, phase_rate=0.25, by_light=False)
    adams = [
        torch.optim.Adam(theirs.amplitude.parameters(), lr=1e-3),
        torch.optim.Adam(theirs.phase.parameters(), lr=0.25e-3),
    ]
    g = torch.Generator().manual_seed(0)
    for _ in range(4):
        wanted = torch.randn(1, 6, 7, generator=g, dtype=torch.complex64)
        learner.learn(learner.window(BOX) - wanted, FLAT, 1.0, YES)
        window = theirs.window(BOX)
        window.backward((window.detach() - wanted) / wanted.numel())
        for adam in adams:
            adam.step()
            adam.zero_grad()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_a_fade_scales_every_rate_and_does_not_stay():
    field = Siren(width=8, hidden=1)
    learner = PublishedLearner(field, rate=1e-3, phase_rate=1.0, by_light=False)
    moved = []
    for fade in (1.0, 0.1, 1.0):
        before = field.amplitude[0].linear.bias.detach().clone()
        learner.learn(learner.window(BOX), FLAT, fade, YES)
        after = field.amplitude[0].linear.bias.detach()
        moved.append(float((after - before).abs().max()))
    assert moved[1] < 0.2 * moved[0] < moved[2]


def test_a_step_that_is_not_finite_changes_nothing():
    field = Siren(width=8, hidden=1)
    learner = PublishedLearner(field, rate=1e-3, phase_rate=1.0, by_light=False)
    learner.learn(learner.window(BOX), FLAT, 1.0, YES)
    before = [p.detach().clone() for p in field.parameters()]
    learner.learn(learner.window(BOX) * torch.nan, FLAT, 1.0, NO)
    for now, then in zip(field.parameters(), before, strict=True):
        assert torch.equal(now, then)
    with pytest.raises(RuntimeError, match="without a window"):
        learner.learn(torch.ones(1, 6, 7) + 0j, FLAT, 1.0, YES)


class Told(PublishedLearner):
    """Stays as it is, and keeps what it was told to learn."""

    def learn(self, gradient, trust, fade, finite) -> None:
        self.gradient = gradient


@pytest.mark.parametrize("by_light", [True, False])
def test_who_wants_plain_gradients_is_not_told_of_light(by_light):
    recon = GeneralScan().reconstruction()
    engine, batch = recon.engine, recon.exposures.batch(np.arange(16))
    box, shots = engine.place(batch)
    engine.objects = Told(recon.object, rate=1, phase_rate=1, by_light=by_light)
    engine.step(batch, Rates(probe=False))
    with torch.no_grad():
        seen = recon.object.window(box), recon.stages.probe.window(recon._frame)
    got = engine.optics.gradients(*seen, shots, probe_too=False)
    light = got.illumination
    wanted = got.by_window
    if by_light:
        wanted = wanted / (0.95 * light + 0.05 * light.max())
    torch.testing.assert_close(engine.objects.gradient, wanted, rtol=1e-3, atol=1e-3)
    assert light.std() > 0.1 * light.max()


@pytest.mark.parametrize("warmup", [0, 4])
@pytest.mark.parametrize("by_light", [True, False])
def test_only_a_network_takes_plain_gradients(warmup, by_light):
    o = ObjectOptions(field="siren", width=8, hidden=1, warmup_steps=warmup)
    e = EngineOptions(by_light=by_light, batch=16)
    recon = GeneralScan().reconstruction(object=o, engine=e)
    seen = []
    for _ in range(6):
        seen.append(not recon.engine.objects.by_light)
        recon.step()
    assert seen == [not by_light and n >= warmup for n in range(6)]


def test_the_setting_chooses_the_learner():
    def chosen(field: str, adam: str) -> type:
        o = ObjectOptions(field=field, width=8, depth=1, filters=2)
        recon = GeneralScan().reconstruction(
            object=o, engine=EngineOptions(adam=adam), probe=ProbeOptions(known=True)
        )
        return type(object_learner(recon.object, recon.options))

    assert chosen("siren", "quick") is NeuralLearner
    assert chosen("siren", "published") is PublishedLearner
    assert chosen("multires", "published") is NeuralLearner  # it has tiles


@pytest.mark.parametrize(
    ("asked", "rate"), [(None, 0.1 * 3e-3), (7e-4, 7e-4)], ids=["a tenth", "its own"]
)
def test_the_probe_s_network_has_a_rate_of_its_own(asked, rate):
    options = ReconOptions(
        probe=ProbeOptions(field="hashgrid"),
        engine=EngineOptions(probe_net_rate=asked),
    )
    first = torch.ones(1, 8, 8) + 0j
    learner = probe_learner(HashGrid(size_px=8, levels=2), options, first)
    assert vars(learner)["_net_rate"] == pytest.approx(rate)


@pytest.mark.parametrize("field", ["siren", "unet", "hashgrid"])
def test_every_network_learns_this_way(field):
    o = ObjectOptions(
        field=field, width=32, hidden=2, depth=1, filters=4, warmup_steps=0
    )
    e = EngineOptions(
        adam="published",
        by_light=False,
        siren_rate=1e-3,
        unet_rate=3e-3,
        batch=16,
        held_out=0.15,
    )
    recon = GeneralScan().reconstruction(
        object=o,
        engine=e,
        probe=ProbeOptions(known=True),
        hashgrid=HashGridOptions(levels=6, table=2**10),
    )
    recon.step()
    first = recon.measure().held_out_error
    assert run(recon, 80).measure().held_out_error < 0.7 * first


def test_phase_rate_reaches_the_phase_net():
    field = Siren(width=8, hidden=1)
    options = ReconOptions(engine=EngineOptions(adam="published", phase_rate=0.5))
    learner = network_learner(field, options, 4e-4)
    rates = [g["lr"] for g in vars(learner)["_adam"].param_groups]
    assert rates == pytest.approx([4e-4, 2e-4])
