"""Smooth pixels: empty space, windows that agree, white noise kept, gradients."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ptystream.models.field import Box
from ptystream.models.smooth import REACH, Smooth, exponential_root, quick_size

CPU = torch.device("cpu")
boxes = st.builds(
    Box, st.integers(-90, 90), st.integers(-90, 90), *[st.integers(1, 60)] * 2
)


def rough(box: Box, *, std: float = 0.1, **options) -> Smooth:
    """Return smooth pixels of white coefficients, on the box and what it needs."""
    field = Smooth(**options)
    field.cover(box)
    g = torch.Generator().manual_seed(0)
    shape = field.canvas.values.shape
    field.canvas.values = std * torch.randn(shape, generator=g)
    return field


@torch.no_grad()
def seen(field: Smooth, box: Box) -> torch.Tensor:
    return field.window(box)


@given(boxes, boxes)
def test_empty_space_is_one_wherever_one_looks(first: Box, second: Box):
    field = Smooth(2)
    field.cover(first)
    for box in (first, second):
        assert torch.equal(seen(field, box), torch.ones(2, box.h, box.w) + 0j)


@given(boxes, st.lists(boxes, max_size=3))
def test_growth_disturbs_nothing(first: Box, later: list[Box]):
    field = rough(first, length_px=4.0)
    before = seen(field, first)
    for box in later:
        field.cover(box)
    torch.testing.assert_close(seen(field, first), before, rtol=0, atol=1e-6)


def test_a_covered_box_costs_no_growth():
    field = Smooth()
    assert field.cover(Box(0, 0, 40, 40))
    assert not field.cover(Box(5, 5, 20, 20))


@pytest.mark.parametrize("length_px", [2.0, 4.0, 8.0])
def test_what_lies_beyond_a_window_hardly_matters(length_px):
    """One coefficient, seen from ``REACH`` lengths: below 2 % of its height."""
    field = Smooth(length_px=length_px)
    far = round(REACH * length_px)
    field.cover(Box(0, 0, 1, far + 1))
    y, x = -field.canvas.box.y, -field.canvas.box.x
    field.canvas.values[1, y, x] = 1e-3
    phase = seen(field, Box(0, 0, 1, far + 1)).angle()[0, 0]
    assert (phase.diff() < 0).all()
    assert 0 < phase[-1] < 0.02 * phase[0]


@settings(max_examples=20)
@given(boxes, boxes, st.sampled_from([2.0, 5.0, 8.0]))
def test_a_part_agrees_with_a_larger_window(one: Box, other: Box, length_px: float):
    """Windows leave out other coefficients: by 2 % of the field's spread, root mean
    square (measured: 0.6 to 1.7 %), where it would be off by √2 of it by chance."""
    both = one.union(other).grown(10)
    field = rough(both, length_px=length_px)
    whole, part = seen(field, both).log(), seen(field, one).log()
    y, x = one.y - both.y, one.x - both.x
    off = part - whole[:, y : y + one.h, x : x + one.w]
    # In a window of a few pixels all are off alike, so there it is the largest.
    assert off.abs().max() < 0.08 * 0.1 * math.sqrt(2)
    if one.h * one.w > (4 * length_px) ** 2:
        assert off.abs().square().mean().sqrt() < 0.03 * 0.1 * math.sqrt(2)


def test_a_step_s_cost_follows_the_window_not_the_canvas():
    field = Smooth(length_px=4.0)
    field.cover(Box(0, 0, 2000, 500))
    field.window(Box(800, 100, 30, 41))
    (tile,) = field.tiles
    assert tile.leaf.shape == (2, quick_size(30 + 32), quick_size(41 + 32))


@pytest.mark.parametrize("length_px", [1.0, 3.0, 8.0])
def test_white_coefficients_keep_their_variance(length_px):
    box = Box(-3, 5, 500, 500)
    made = seen(rough(box, std=0.2, length_px=length_px), box).log()
    assert float(made.real.std()) == pytest.approx(0.2, rel=0.12)
    assert float(made.imag.std()) == pytest.approx(0.2, rel=0.12)


def test_longer_lengths_are_smoother():
    def slope(length_px: float) -> float:
        box = Box(0, 0, 200, 200)
        return float(
            seen(rough(box, length_px=length_px), box).log().diff().abs().std()
        )

    assert slope(8.0) < 0.6 * slope(2.0)


@pytest.mark.parametrize("kind", ["complex", "phase", "potential"])
def test_gradients_agree_with_finite_differences(kind):
    box = Box(2, -3, 9, 12)
    field = rough(box, kind=kind, length_px=2.0, slices=2)
    field.canvas.values = field.canvas.values.double()
    g = torch.Generator().manual_seed(1)
    weights = torch.randn(2, 9, 12, generator=g, dtype=torch.complex128)

    def value(window: torch.Tensor) -> torch.Tensor:
        return (weights.conj() * window).real.sum()

    value(field.window(box)).backward()
    (tile,) = field.tiles
    way = torch.randn(tile.leaf.shape, generator=g, dtype=torch.float64)
    at = (slice(None), tile.rows, tile.cols)
    start, ends = field.canvas.values.clone(), []
    for step in (1e-5, -1e-5):
        field.canvas.values = start.clone()
        field.canvas.values[at] += step * way
        ends.append(float(value(seen(field, box))))
    slope = (ends[0] - ends[1]) / 2e-5
    assert float((tile.leaf.grad * way).sum()) == pytest.approx(slope, rel=1e-5)


@pytest.mark.parametrize(
    ("kind", "empty_rad"), [("phase", 0), ("potential", math.log(2))]
)
def test_pure_phases_are_made_of_one_channel(kind, empty_rad):
    box = Box(0, 0, 30, 30)
    empty = seen(Smooth(kind=kind), box).angle()
    torch.testing.assert_close(empty, torch.full((1, 30, 30), float(empty_rad)))
    field = rough(box, std=1.0, kind=kind, slices=2)
    assert len(field.canvas.values) == 2
    made = seen(field, box)
    torch.testing.assert_close(made.abs(), torch.ones(2, 30, 30))
    assert (made.angle() < 0).any().item() is (kind == "phase")


def test_amplitude_and_phase_are_channels_of_their_own():
    box = Box(0, 0, 20, 20)
    for channel in (0, 1):
        field = rough(box)
        field.canvas.values[1 - channel] = 0
        made = seen(field, box)
        parts = made.abs() - 1, made.angle()
        assert parts[channel].abs().max() > 0.05
        assert parts[1 - channel].abs().max() < 1e-6


@given(st.integers(1, 5000))
def test_quick_sizes_are_the_next_even_ones_without_large_factors(least: int):
    size = quick_size(least)
    quick = [
        2**a * 3**b * 5**c for a in range(1, 14) for b in range(8) for c in range(6)
    ]
    assert size == min(n for n in quick if n >= least)


def test_the_kernel_is_made_once():
    one = exponential_root((60, 64), 8.0, CPU)
    assert exponential_root((60, 64), 8.0, CPU) is one
    assert one.shape == (60, 33)
    assert float(one[0, 0]) == one.max()
