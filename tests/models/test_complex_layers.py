import pytest
import torch
from torch import nn
from torch.nn import functional

from ptystream.models.complex_layers import (
    BatchNorm,
    MaxPool,
    ModRelu,
    PhaseRelu,
    Relu,
    activation,
)


def maps(*shape: int) -> torch.Tensor:
    made = torch.Generator().manual_seed(0)
    return torch.randn(*shape, dtype=torch.complex128, generator=made)


@pytest.mark.parametrize(
    ("layer", "part"),
    [
        (Relu(), functional.relu),
        (MaxPool(), lambda x: functional.max_pool2d(x, 2)),
    ],
)
def test_layers_act_on_re_and_im_apart_and_on_real_maps_once(layer, part):
    z = maps(2, 3, 4, 6)
    torch.testing.assert_close(layer(z).real, part(z.real))
    torch.testing.assert_close(layer(z).imag, part(z.imag))
    torch.testing.assert_close(layer(z.real), part(z.real))


def test_each_part_is_normalised_by_its_own_statistics():
    z = maps(2, 3, 8, 8) * torch.tensor([1.0, 5.0, 9.0])[:, None, None]
    z = torch.complex(z.real * 4 + 3, z.imag - 7)
    out = BatchNorm(3, is_complex=True).double()(z)
    for part in (out.real, out.imag):
        torch.testing.assert_close(part.mean((0, 2, 3)), torch.zeros(3).double())
        spread = part.std((0, 2, 3), correction=0)
        torch.testing.assert_close(spread, torch.ones(3).double(), rtol=0, atol=1e-3)


def test_a_real_normalisation_is_torch_s():
    x = maps(2, 3, 8, 8).real
    ours = BatchNorm(3, is_complex=False).double()(x)
    torch.testing.assert_close(ours, nn.BatchNorm2d(3).double()(x))


def test_modrelu_keeps_the_phase_and_shifts_the_amplitude():
    layer, z = ModRelu(3).double(), maps(2, 3, 4, 4)
    with torch.no_grad():
        layer.bias.copy_(torch.tensor([-0.5, 0.0, 0.5])[:, None, None])
    out = layer(z)
    expected = (z.abs() + layer.bias).relu()
    torch.testing.assert_close(out.abs(), expected)
    kept = expected > 0
    torch.testing.assert_close(out.angle()[kept], z.angle()[kept])
    assert (~kept).any()


def test_phaserelu_keeps_what_points_along_the_real_axis():
    z = maps(2, 3, 4, 4)
    angle = z.angle().abs()
    expected = z.abs() * angle.clamp(max=torch.pi / 2).cos().square()
    out = PhaseRelu()(z)
    torch.testing.assert_close(out, expected.to(z.dtype))
    torch.testing.assert_close(PhaseRelu()(z.real), z.real.relu())
    dark = torch.zeros(1, 1, 2, 2, dtype=z.dtype, requires_grad=True)
    PhaseRelu()(dark).real.sum().backward()
    assert torch.isfinite(torch.view_as_real(dark.grad)).all()


@pytest.mark.parametrize("layer", [Relu(), MaxPool(), ModRelu(2).double(), PhaseRelu()])
def test_gradients_agree_with_finite_differences(layer):
    z = maps(1, 2, 4, 4).requires_grad_()
    assert torch.autograd.gradcheck(layer, [z])


def test_zero_has_a_finite_gradient():
    z = torch.zeros(1, 2, 2, 2, dtype=torch.complex64, requires_grad=True)
    ModRelu(2)(z).abs().sum().backward()
    assert torch.isfinite(torch.view_as_real(z.grad)).all()


def test_activations_go_by_name():
    assert isinstance(activation("relu", 2), Relu)
    assert isinstance(activation("modrelu", 2), ModRelu)
    assert isinstance(activation("phaserelu", 2), PhaseRelu)
    with pytest.raises(ValueError, match="swish"):
        activation("swish", 2)
