import pytest
import torch
from torch import nn

from ptystream.models.field import Box
from ptystream.models.pretrain import complex_l2, pretrain
from ptystream.models.siren import Siren

BOX = Box(0, 0, 4, 4)


class Grid(nn.Module):
    """The smallest field: one number a pixel, which remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.zeros(1, 4, 4, dtype=torch.complex64))
        self.covered: list[Box] = []

    def window(self, box: Box) -> torch.Tensor:
        return self.values

    def cover(self, box: Box) -> bool:
        self.covered.append(box)
        return False


def test_complex_l2_is_half_of_both_errors():
    made, target = torch.tensor([[[1 + 2j, 0]]]), torch.tensor([[[0, 0.5j]]])
    assert float(complex_l2(made, target)) == pytest.approx(
        0.5 * ((1 + 0) / 2 + (4 + 0.25) / 2)
    )


def test_wraps_of_the_phase_cost_nothing():
    phase = torch.linspace(-8, 8, 16).reshape(1, 4, 4)
    one = torch.polar(torch.ones_like(phase), phase)
    other = torch.polar(torch.ones_like(phase), phase + 4 * torch.pi)
    assert float(complex_l2(one, other)) < 1e-10


def test_it_covers_the_box_and_returns_the_curve():
    field, target = Grid(), torch.full((1, 4, 4), 0.3 - 0.4j)
    curve = pretrain(field, target, BOX, steps=150, lr=1e-2)
    assert field.covered == [BOX]
    assert curve.shape == (150,)
    assert float(curve[0]) == pytest.approx(0.125)  # before the first step
    assert not curve.requires_grad
    torch.testing.assert_close(field.values.detach(), target, rtol=0, atol=1e-2)


def test_it_works_where_gradients_are_off_and_leaves_none_behind():
    field = Siren(width=8, hidden=1)
    with torch.no_grad():
        curve = pretrain(field, torch.ones(1, 4, 4) + 0j, BOX, steps=20, lr=1e-3)
    assert curve[-1] < curve[0]
    assert all(p.grad is None for p in field.parameters())


def test_loss_and_update_are_the_caller_s():
    field, target = Grid(), torch.ones(1, 4, 4) + 0j

    def far(made: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return (made - target).abs().square().sum()

    def descend() -> None:
        with torch.no_grad():
            field.values -= 0.5 * field.values.grad
        field.values.grad = None

    curve = pretrain(field, target, BOX, steps=2, loss=far, update=descend)
    torch.testing.assert_close(curve, torch.tensor([16.0, 0.0]))
