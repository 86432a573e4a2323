import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from ptystream.models.field import Box
from ptystream.models.pretrain import pretrain
from ptystream.models.siren import Sine, Siren, coordinates

SMALL = {"width": 32, "hidden": 2}


def count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_the_paper_s_object_has_its_number_of_parameters():
    assert count(Siren()) == 2 * 790_017


def test_weights_start_as_sitzmann_et_al():
    torch.manual_seed(0)
    net = Siren(width=256, omega_hidden=25.0).phase
    layers = (net[0].linear, net[1].linear, net[-1])
    first, hidden, head = (float(x.weight.detach().abs().max()) for x in layers)
    assert first == pytest.approx(1 / 2, rel=0.02)
    bound = math.sqrt(6 / 256) / 25
    assert hidden == pytest.approx(bound, rel=0.02)
    assert head == pytest.approx(bound, rel=0.05)


def test_omega_scales_the_bias_only_in_the_code_s_way():
    x = torch.rand(5, 2)
    text = Sine(2, 3, 7.0, first=True, scaled_bias=False)
    code = Sine(2, 3, 7.0, first=True, scaled_bias=True)
    code.load_state_dict(text.state_dict())
    wx = x @ text.linear.weight.T
    torch.testing.assert_close(text(x), torch.sin(7 * wx + text.linear.bias))
    torch.testing.assert_close(code(x), torch.sin(7 * (wx + text.linear.bias)))


def test_coordinates_are_pixels_from_the_origin_in_units_of_the_scale():
    got = coordinates(Box(-1, 4, 2, 3), (1.0, 4.0), 2.0, torch.device("cpu"))
    expected = [[-1, 0], [-1, 0.5], [-1, 1], [-0.5, 0], [-0.5, 0.5], [-0.5, 1]]
    torch.testing.assert_close(got, torch.tensor(expected))


@given(st.integers(-900, 900), st.integers(-900, 900))
def test_a_window_is_the_crop_of_a_larger_one(y, x):
    field = Siren(2, **SMALL)
    box = Box(y, x, 5, 7)
    large = field.window(box.grown(3))[:, 3:-3, 3:-3]
    torch.testing.assert_close(field.window(box), large)


@pytest.mark.parametrize(
    ("kind", "first", "last"), [("unit", 0.0, 1.0), ("signed", -1.0, 1.0)]
)
def test_the_papers_coordinates_span_the_scan(kind, first, last):
    field = Siren(coordinates=kind, **SMALL)
    field.cover(Box(-3, 10, 8, 8))
    field.cover(Box(5, 10, 8, 5))
    line = torch.linspace(first, last, 16)  # rows -3 … 12; as many columns from 10
    expected = torch.cartesian_prod(line, line)
    inputs = []
    field.phase.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
    for _ in range(2):
        field.window(Box(-3, 10, 16, 16))
        torch.testing.assert_close(inputs.pop(), expected)
        field.cover(Box(90, 90, 5, 5))  # too late: it would move what is learned


def test_each_layer_has_its_own_omega():
    net = Siren(omega_first=9.0, omega_hidden=4.0, **SMALL).phase
    assert [layer.omega for layer in net[:-1]] == [9.0, 4.0, 4.0]


def test_there_is_nothing_to_cover():
    assert Siren(**SMALL).cover(Box(-5000, 10, 4, 4)) is False


@pytest.mark.parametrize(
    ("kind", "output"), [("phase", lambda raw: raw), ("potential", functional.softplus)]
)
def test_other_kinds_have_one_net_and_amplitude_one(kind, output):
    field, box = Siren(3, kind=kind, **SMALL), Box(0, 0, 4, 4)
    window = field.window(box)
    assert window.shape == (3, 4, 4)
    assert count(field) == count(field.phase)
    torch.testing.assert_close(window.abs(), torch.ones(3, 4, 4))
    expected = output(field._read(field.phase, box))
    torch.testing.assert_close(window.angle(), expected)


def test_flat_is_added_and_absolute_folds_the_amplitude():
    torch.manual_seed(0)
    box, plain = Box(0, 0, 6, 6), Siren(**SMALL)
    amplitude = plain.window(box) / torch.exp(1j * plain._read(plain.phase, box))
    flat, folded = Siren(flat=1.0, **SMALL), Siren(absolute=True, flat=-1.0, **SMALL)
    for other in (flat, folded):
        other.load_state_dict(plain.state_dict())
    turn = torch.exp(1j * plain._read(plain.phase, box))
    torch.testing.assert_close(flat.window(box), (amplitude + 1) * turn)
    torch.testing.assert_close(folded.window(box), (amplitude - 1).abs() * turn)


def test_a_window_first_seen_by_a_snapshot_can_still_be_trained():
    field, box = Siren(**SMALL), Box(123, 321, 3, 3)
    with torch.inference_mode():
        field.window(box)
    field.window(box).abs().sum().backward()
    assert all(p.grad is not None for p in field.parameters())


def test_gradients_agree_with_finite_differences():
    torch.manual_seed(0)
    field = Siren(width=3, hidden=1).double()
    names = [name for name, _ in field.named_parameters()]

    def window(*values):
        given = dict(zip(names, values, strict=True))
        return torch.func.functional_call(field, given, (Box(0, 0, 2, 3),))

    field.forward = field.window
    leaves = [p.detach().clone().requires_grad_() for p in field.parameters()]
    assert torch.autograd.gradcheck(window, leaves)


def test_it_fits_an_image():
    torch.manual_seed(0)
    line = torch.arange(24) / 24
    amplitude = 0.8 + 0.2 * torch.sin(9 * line[:, None]) * torch.cos(14 * line)
    phase = 2.5 * torch.sin(11 * line[:, None] + 5 * line)
    target, box = torch.polar(amplitude, phase)[None], Box(-7, 30, 24, 24)
    field = Siren(width=64, hidden=2, scale_px=24.0)
    curve = pretrain(field, target, box, steps=200, lr=1e-3)
    assert curve[0] > 0.2
    assert curve[-1] < 2e-3
