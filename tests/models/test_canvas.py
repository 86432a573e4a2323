"""The canvas grows where the scan goes, and disturbs nothing that is learned."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from ptystream.models.canvas import Canvas
from ptystream.models.field import Box
from ptystream.models.multires import MultiRes
from ptystream.models.pixels import Pixels

boxes = st.builds(
    Box, st.integers(-200, 200), st.integers(-200, 200), *[st.integers(1, 90)] * 2
)


@given(boxes, st.lists(boxes, max_size=4))
def test_growth_keeps_what_is_learned_where_it_is(first: Box, later: list[Box]):
    field = Pixels()
    learned = torch.randn(1, first.h, first.w, dtype=torch.complex64)
    field.write(first, learned)
    for box in later:
        field.cover(box)
    with torch.no_grad():
        torch.testing.assert_close(field.window(first), learned)
        for box in later:
            assert field.window(box).shape == (1, box.h, box.w)


@given(boxes, boxes)
def test_new_pixels_are_empty_space(first: Box, second: Box):
    field = Pixels()
    field.cover(first)
    field.cover(second)
    with torch.no_grad():
        assert (field.window(second) == 1).all()


def test_a_covered_box_costs_no_growth():
    canvas = Canvas(torch.zeros(1))
    assert canvas.cover(Box(0, 0, 10, 10))
    assert not canvas.cover(Box(2, 2, 5, 5))


@given(boxes, boxes)
def test_multires_gives_the_same_values_through_any_window(one: Box, other: Box):
    torch.manual_seed(0)
    field = MultiRes(levels=4, features=2, width=8)
    torch.nn.init.normal_(field.net[-1].weight)
    both = one.union(other)
    field.cover(both)
    with torch.no_grad():
        whole = field.window(both)
        part = field.window(one)
    y, x = one.y - both.y, one.x - both.x
    torch.testing.assert_close(part, whole[:, y : y + one.h, x : x + one.w])


def test_multires_interpolates_linearly_between_nodes():
    field = MultiRes(levels=3, features=1)
    box = Box(-8, -8, 17, 17)
    field.cover(box)
    coarse = field.canvases[2]
    coarse.values.zero_()
    coarse.values[0, -coarse.box.y, -coarse.box.x] = 1.0  # the node at pixel (0, 0)
    with torch.no_grad():
        level, _ = field._level(coarse, box)
    line = (1 - (torch.arange(17) - 8).abs() / 4).clamp(min=0)
    torch.testing.assert_close(level[0], line[:, None] * line)


def test_multires_starts_as_empty_space_and_learns():
    field = MultiRes(levels=3)
    box = Box(0, 0, 16, 16)
    field.cover(box)
    window = field.window(box)
    assert (window == 1).all()
    window.imag.sum().backward()
    assert field.net[-1].weight.grad.abs().sum() > 0
