"""A canvas that grows leaves what is learned as it is, bit for bit."""

import pytest
import torch

from ptystream.models.field import Box, Field
from ptystream.models.multires import MultiRes
from ptystream.models.pixels import Pixels
from ptystream.models.siren import Siren
from ptystream.models.smooth import Smooth
from ptystream.recon.learners import NeuralLearner
from ptystream.recon.optim import TileAdam

FIELDS = {
    "pixels": Pixels,
    "smooth": lambda: Smooth(length_px=4.0),
    "multires": lambda: MultiRes(levels=4, width=16),
    "siren": lambda: Siren(width=16, hidden=1),
}
SEEN = Box(-20, 30, 40, 50)
LATER = [Box(-20, 70, 40, 90), Box(-300, 30, 40, 50), Box(150, -400, 60, 60)]


def taught(field: Field) -> NeuralLearner:
    """Return what has learned something everywhere on the box."""
    learner = NeuralLearner(field, net_rate=1e-3, tiles=TileAdam(1e-2))
    learner.field.cover(SEEN)
    for seed in range(3):
        step(learner, SEEN, seed)
    return learner


def step(learner: NeuralLearner, box: Box, seed: int) -> None:
    window = learner.window(box)
    torch.manual_seed(seed)
    trust = torch.ones(box.h, box.w)
    learner.learn(torch.randn_like(window), trust, 1.0, torch.tensor(True))


@pytest.mark.parametrize("name", FIELDS)
def test_what_was_learned_is_the_same_after_growth(name):
    torch.manual_seed(0)
    field = FIELDS[name]()
    taught(field)
    with torch.no_grad():
        before = field.window(SEEN).clone()
        for box in LATER:
            field.cover(box)
            assert torch.equal(field.window(SEEN), before)


@pytest.mark.parametrize("name", FIELDS)
def test_the_next_step_is_the_same_as_without_growth(name):
    """So are the optimiser's means and ages."""
    after = list[torch.Tensor]()
    for grows in (False, True):
        torch.manual_seed(0)
        learner = taught(FIELDS[name]())
        for box in LATER if grows else []:
            learner.field.cover(box)
        step(learner, SEEN, 9)
        with torch.no_grad():
            after.append(learner.field.window(SEEN))
    assert torch.equal(*after)
