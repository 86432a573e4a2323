import pytest
import torch

from ptystream.models.field import Box
from ptystream.models.pretrain import pretrain
from ptystream.models.unet import UNet, UNetField, reach_px

SMALL = {"depth": 2, "filters": 4}


def count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def image(s: int, h: int, w: int) -> torch.Tensor:
    made = torch.Generator().manual_seed(5)
    amplitude = 0.7 + 0.3 * torch.rand(s, h, w, generator=made)
    return torch.polar(amplitude, torch.rand(s, h, w, generator=made) * 2 - 1)


def trained(field: UNetField) -> UNetField:
    """Give the field statistics of its own, and stop the noise."""
    with torch.no_grad():
        for _ in range(3):
            field.window(Box(0, 0, 32, 32))
    return field.eval()


@pytest.mark.parametrize(
    ("depth", "filters", "dtype", "parameters"),
    [
        (2, 8, torch.float32, 39_401),
        (3, 8, torch.float32, 161_993),
        (3, 16, torch.float32, 645_009),
        (4, 16, torch.float32, 2_597_649),
        (3, 16, torch.complex64, 646_641),
    ],
)
def test_the_papers_networks_have_their_number_of_parameters(
    depth, filters, dtype, parameters
):
    assert count(UNet(1, depth=depth, filters=filters, dtype=dtype)) == parameters


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
@pytest.mark.parametrize("name", ["relu", "modrelu", "phaserelu"])
def test_the_shape_is_kept_and_every_parameter_learns(dtype, name):
    net = UNet(3, **SMALL, name=name, dtype=dtype)
    out = net(torch.randn(2, 3, 16, 24, dtype=dtype))
    assert out.shape == (2, 3, 16, 24)
    assert out.dtype == dtype
    out.abs().square().sum().backward()
    assert all(p.grad is not None for p in net.parameters())


@pytest.mark.parametrize("norm_first", [False, True])
def test_normalisation_stands_before_or_after_the_activation(norm_first):
    net = UNet(1, norm_first=norm_first, dtype=torch.complex64, **SMALL)
    order = [type(layer).__name__ for layer in net.bottom]
    after = ["BatchNorm", "Relu"] if norm_first else ["Relu", "BatchNorm"]
    assert order == 2 * ["Conv2d", *after]


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_the_reach_is_as_far_as_the_output_depends_and_no_farther(depth):
    torch.manual_seed(0)
    reach = reach_px(depth)
    size = 2 * (reach + (1 << depth))
    size += -size % (1 << depth)
    net = UNet(1, depth=depth, filters=2, name="modrelu").double().eval()
    given = torch.randn(1, 1, size, size).double().requires_grad_()
    far = []
    for at in range(size // 2, size // 2 + (1 << depth)):
        pixel = net(given)[0, 0, at, at]
        (gradient,) = torch.autograd.grad(pixel, given)
        rows = gradient[0, 0].abs().sum(1).nonzero()[:, 0]
        far.append(int((rows - at).abs().max()))
    assert reach - 3 <= max(far) <= reach


@pytest.mark.parametrize("kind", ["complex", "phase", "potential"])
def test_windows_agree_with_each_other_in_eval_mode(kind):
    torch.manual_seed(0)
    field = UNetField(2, kind=kind, **SMALL)
    field.set_input(Box(-5, 3, 41, 37), image(2, 41, 37))
    trained(field)
    with torch.no_grad():
        large = field.window(Box(-30, -20, 80, 70))
        for y, x in [(-30, -20), (-3, 7), (11, 30), (40, 40)]:
            one = field.window(Box(y, x, 10, 9))
            expected = large[:, y + 30 : y + 40, x + 20 : x + 29]
            torch.testing.assert_close(one, expected, rtol=0, atol=1e-5)
    assert large.abs().std() > 1e-3 or kind != "complex"


def test_a_window_far_from_the_estimate_is_that_of_empty_space():
    field = UNetField(**SMALL)
    field.set_input(Box(0, 0, 20, 20), image(1, 20, 20))
    trained(field)
    far, farther = Box(500, -700, 8, 8), Box(900, 4, 8, 8)
    torch.testing.assert_close(field.window(far), field.window(farther))


def test_a_small_margin_is_cheaper_and_right_in_the_middle():
    torch.manual_seed(0)
    exact, cheap = UNetField(**SMALL), UNetField(margin_px=8, **SMALL)
    exact.set_input(Box(0, 0, 64, 64), image(1, 64, 64))
    trained(exact)
    cheap.set_input(Box(0, 0, 64, 64), image(1, 64, 64))
    cheap.load_state_dict(exact.state_dict())
    cheap.eval()
    box = Box(8, 8, 48, 48)
    with torch.no_grad():
        error = (exact.window(box) - cheap.window(box)).abs()[0]
    assert error[21:27, 21:27].max() < 1e-5
    assert error.max() > 1e-4


def test_noise_is_fresh_in_training_and_absent_in_eval():
    field, box = UNetField(**SMALL), Box(0, 0, 16, 16)
    assert not torch.equal(field.window(box), field.window(box))
    field.eval()
    torch.testing.assert_close(field.window(box), field.window(box))


@pytest.mark.parametrize("kind", ["complex", "phase"])
def test_the_noise_has_the_stated_deviation(kind):
    field, seen = UNetField(kind=kind, noise=0.5, whole=True, **SMALL), []
    field.net.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    box = Box(0, 0, 128, 128)
    field.cover(box)
    field.window(box)
    empty = 1 if kind == "complex" else 0
    deviation = (seen[0] - empty).abs().square().mean().sqrt()
    assert float(deviation) == pytest.approx(0.5, rel=0.03)


@pytest.mark.parametrize("whole", [True, False])
def test_a_whole_field_wraps_round_its_edges(whole):
    torch.manual_seed(0)
    field, box = UNetField(whole=whole, noise=0.0, **SMALL), Box(4, -8, 64, 64)
    estimate = image(1, 64, 64)
    field.set_input(box, estimate)
    field.eval()
    first = Box(4, -8, 1, 1)
    before = field.window(first)
    estimate[:, -1, -1] += 1  # 63 px away, or 1 px round the edge; the reach is 29
    field.set_input(box, estimate)
    assert torch.equal(field.window(first), before) is not whole


def test_a_whole_field_knows_its_edges():
    torch.manual_seed(0)
    field, box = UNetField(whole=True, **SMALL).eval(), Box(4, -8, 17, 23)
    field.set_input(box, image(1, 17, 23))
    everything = field.window(box)
    assert everything.shape == (1, 17, 23)
    inner = field.window(Box(10, 2, 4, 4))
    torch.testing.assert_close(inner, everything[:, 6:10, 10:14])
    with pytest.raises(ValueError, match="cover it"):
        field.window(Box(0, 0, 8, 8))


def test_covering_keeps_what_is_there():
    whole, local = UNetField(whole=True, **SMALL), UNetField(**SMALL)
    box, larger = Box(0, 0, 8, 8), Box(-6, 2, 9, 10)
    whole.set_input(box, image(1, 8, 8))
    assert whole.cover(larger) is True
    assert whole.cover(larger) is False
    assert whole.place == box.union(larger)
    torch.testing.assert_close(whole.estimate[:, 6:14, :8], image(1, 8, 8))
    assert float((whole.estimate[:, :6] - 1).abs().max()) == 0
    assert local.cover(larger) is False


def test_scale_divides_what_goes_in_and_multiplies_what_comes_out():
    torch.manual_seed(0)
    box, probe = Box(0, 0, 16, 16), image(2, 16, 16)
    one = UNetField(2, whole=True, empty=0j, **SMALL)
    big = UNetField(2, whole=True, empty=0j, scale=300.0, **SMALL)
    one.set_input(box, probe)
    big.set_input(box, probe * 300)
    big.load_state_dict(one.state_dict() | {"estimate": big.estimate})
    one.eval()
    big.eval()
    torch.testing.assert_close(big.window(box), 300 * one.window(box))


@pytest.mark.parametrize("kind", ["complex", "phase", "potential"])
def test_it_learns_to_reproduce_its_input(kind):
    torch.manual_seed(0)
    line = torch.arange(24) / 4
    phase = 0.6 + 0.5 * torch.sin(line[:, None]) * torch.cos(1.3 * line)
    amplitude = 0.8 + 0.1 * torch.cos(line) if kind == "complex" else torch.ones(24)
    target, box = torch.polar(amplitude.expand(24, 24), phase)[None], Box(2, 3, 24, 24)
    field = UNetField(kind=kind, whole=True, depth=2, filters=8)
    field.set_input(box, target)
    curve = pretrain(field, target, box, steps=60, lr=5e-3)
    assert curve[-5:].mean() < 5e-3
    assert curve[-5:].mean() < 0.1 * curve[0]
