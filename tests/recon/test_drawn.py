"""One drawing serves picture and judgement."""

import numpy as np
import pytest
import torch

from ptystream.models.field import Box
from ptystream.models.multires import MultiRes
from ptystream.recon.drawn import Drawn
from ptystream.recon.hold import Held


def test_parts_are_those_of_the_field():
    torch.manual_seed(0)
    field, whole = MultiRes(levels=3, width=16), Box(-10, 20, 60, 50)
    field.cover(whole)
    for part in field.parameters():
        torch.nn.init.normal_(part)
    drawn = Drawn(Held(field, lambda window: window), whole)
    part = Box(5, 30, 20, 21)
    with torch.no_grad():
        expected = field.window(part)
    assert np.ptp(expected.abs().numpy()) > 0
    torch.testing.assert_close(drawn.window(part), expected)
    assert not drawn.window(part).requires_grad


def test_what_was_not_drawn_is_not_made_up():
    field = MultiRes(levels=2, width=8)
    field.cover(Box(0, 0, 8, 8))
    drawn = Drawn(Held(field, lambda window: window), Box(0, 0, 8, 8))
    with pytest.raises(ValueError, match="only"):
        drawn.window(Box(0, 1, 8, 8))
