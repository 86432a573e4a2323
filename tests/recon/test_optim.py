"""Adam on the cells of a canvas: each has its own age; what is dark stays put."""

import pytest
import torch

from ptystream.models.canvas import Canvas
from ptystream.models.field import Box
from ptystream.recon.optim import TileAdam

YES, NO = torch.tensor(True), torch.tensor(False)
BOX = Box(0, 0, 3, 4)


def a_canvas() -> Canvas:
    canvas = Canvas(torch.zeros(2))
    canvas.cover(BOX)
    return canvas


def push(
    adam: TileAdam,
    canvas: Canvas,
    gradient: torch.Tensor | float,
    *,
    box: Box = BOX,
    fade: float = 1.0,
    finite: torch.Tensor = YES,
) -> torch.Tensor:
    """Take a step; return how far the box's cells moved."""
    tile = canvas.tile(box)
    tile.leaf.grad = torch.zeros_like(tile.leaf) + gradient
    adam.update(tile, fade, finite)
    rows, cols = canvas.slices(box)
    return canvas.values[:, rows, cols] - tile.leaf.detach()


def test_without_extras_it_is_torch_s_adam():
    g = torch.Generator().manual_seed(0)
    canvas, theirs = a_canvas(), torch.zeros(2, 3, 4, requires_grad=True)
    known = torch.optim.Adam([theirs], lr=1e-2, betas=(0.9, 0.99), eps=1e-12)
    for _ in range(20):
        gradient = torch.randn(2, 3, 4, generator=g)
        push(TileAdam(1e-2), canvas, gradient)
        theirs.grad = gradient
        known.step()
    rows, cols = canvas.slices(BOX)
    torch.testing.assert_close(canvas.values[:, rows, cols], theirs.detach())


def test_a_cell_reached_late_has_its_own_start():
    canvas, adam = a_canvas(), TileAdam(1e-2, settling=3.0)
    for _ in range(30):
        worn = push(adam, canvas, 0.5)
    late = Box(20, 20, 2, 2)
    first = -(1e-2) * (1 + 1 / 3) ** -0.5
    torch.testing.assert_close(
        push(adam, canvas, 0.5, box=late), torch.full((2, 2, 2), first)
    )
    assert worn.abs().max() < 0.5 * abs(first)


def test_the_rate_settles_as_the_root_of_the_updates():
    canvas, adam = a_canvas(), TileAdam(1e-2, settling=4.0)
    moved = [float(push(adam, canvas, 2.0).abs().mean()) for _ in range(40)]
    wanted = [1e-2 * (1 + age / 4) ** -0.5 for age in range(1, 41)]
    assert moved == pytest.approx(wanted, rel=1e-4)


def test_the_floor_holds_what_has_little_slope():
    gradient = torch.full((2, 3, 4), 1e-4)
    gradient[0, 1, 1] = 1.0
    free = push(TileAdam(1e-2), a_canvas(), gradient).abs()
    held = push(TileAdam(1e-2, floor=0.01), a_canvas(), gradient).abs()
    torch.testing.assert_close(free, torch.full((2, 3, 4), 1e-2))
    assert float(held[0, 1, 1]) == pytest.approx(1e-2 / 1.01, rel=1e-4)
    rest = held[gradient < 1]
    torch.testing.assert_close(rest, torch.full((23,), 1e-2 * 1e-4 / (1e-4 + 0.01)))


@pytest.mark.parametrize("unit", [1e-3, 1.0, 1e3])
def test_decay_is_a_slope_towards_nothing_in_units_of_the_others(unit):
    """Whatever the gradient's unit, it weighs the same beside the patterns' own."""
    g = torch.Generator().manual_seed(0)
    canvas, theirs = a_canvas(), torch.ones(2, 3, 4, requires_grad=True)
    rows, cols = canvas.slices(BOX)
    canvas.values[:, rows, cols] = 1
    known = torch.optim.Adam([theirs], lr=1e-2, betas=(0.9, 0.99), eps=1e-12)
    for _ in range(20):
        gradient = torch.randn(2, 3, 4, generator=g)
        push(TileAdam(1e-2, decay=0.7), canvas, unit * gradient)
        spread = gradient.square().mean().sqrt()
        theirs.grad = gradient + 0.7 * spread * theirs.detach()
        known.step()
    torch.testing.assert_close(
        canvas.values[:, rows, cols], theirs.detach(), rtol=1e-3, atol=1e-4
    )
    assert float(theirs.detach().mean()) < 0.95


def test_a_fade_scales_step_and_decay():
    whole, half = a_canvas(), a_canvas()
    for canvas in (whole, half):
        canvas.values.fill_(1.0)
    adam = TileAdam(0.1, decay=0.5)
    torch.testing.assert_close(
        push(adam, half, 3.0, fade=0.5), 0.5 * push(adam, whole, 3.0)
    )


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_a_step_that_is_not_finite_changes_nothing(poison):
    canvas, adam = a_canvas(), TileAdam(0.1, settling=5.0, floor=0.01, decay=0.5)
    for _ in range(3):
        push(adam, canvas, 1.0)
    before = [
        x.clone() for x in (canvas.values, canvas.mean, canvas.square, canvas.age)
    ]
    push(adam, canvas, poison, finite=NO)
    after = (canvas.values, canvas.mean, canvas.square, canvas.age)
    for now, then in zip(after, before, strict=True):
        assert torch.equal(now, then)


def test_a_tile_without_a_gradient_stays():
    canvas = a_canvas()
    TileAdam(0.1, decay=0.5).update(canvas.tile(BOX), 1.0, YES)
    assert not canvas.age.any()
