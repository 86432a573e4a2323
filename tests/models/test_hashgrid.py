import pytest
import torch

from ptystream.models.field import Box
from ptystream.models.hashgrid import PRIME, HashGrid, Scheme, lookups, make_levels
from ptystream.models.pretrain import pretrain

CPU = torch.device("cpu")
SMALL = {"levels": 4, "base": 4, "growth": 2.0, "table": 128, "width": 16}


def test_the_paper_s_probe_has_its_number_of_parameters():
    field = HashGrid(size_px=64)
    assert field.amplitude.table.numel() == 708_368
    assert sum(p.numel() for p in field.amplitude.layers.parameters()) == 6_208
    assert sum(p.numel() for p in field.parameters()) == 2 * (708_368 + 6_208)


def test_levels_are_dense_until_they_outgrow_the_table():
    levels = make_levels(16, 16, 1.5, 2**15)
    assert levels[0].nodes == 16
    assert levels[15].nodes == 7007
    assert [level.nodes**2 <= level.entries for level in levels] == [True] * 6 + [
        False
    ] * 10
    ends = [level.start + level.entries for level in levels]
    assert [level.start for level in levels[1:]] == ends[:-1]


@pytest.mark.parametrize("signed", [False, True])
def test_a_dense_level_is_bilinear_interpolation(signed):
    scheme = Scheme(make_levels(1, 5, 2.0, 1000), 9, (2, -3), signed)
    index, weight = lookups(Box(2, -3, 9, 9), scheme, CPU)
    assert index.min() >= 0
    torch.testing.assert_close(weight.sum(1), torch.ones(81))
    if signed:
        return
    ramp = torch.arange(25).float()  # node (y, x) holds 5 y + x
    got = (ramp[index.long().clamp(max=24)] * weight).sum(1).reshape(9, 9)
    line = torch.linspace(0, 4, 9)
    torch.testing.assert_close(got, 5 * line[:, None] + line)


def test_a_fine_level_is_the_published_hash():
    level = make_levels(1, 1000, 2.0, 2**15)[0]
    scheme = Scheme((level,), 1000, (0, 0), signed=False)
    index, _ = lookups(Box(700, 900, 1, 1), scheme, CPU)
    expected = [
        (x ^ (y * PRIME % 2**32)) % 2**15 for y in (700, 701) for x in (900, 901)
    ]
    assert index[0].tolist() == expected


def test_negative_nodes_wrap_as_unsigned_integers():
    level = make_levels(1, 1000, 2.0, 2**15)[0]
    scheme = Scheme((level,), 3, (0, 0), signed=True)
    index, _ = lookups(Box(0, 0, 1, 1), scheme, CPU)  # -1: place -999 + ½
    nodes = [n % 2**32 for n in (-999, -998)]
    expected = [(x ^ (y * PRIME % 2**32)) % 2**15 for y in nodes for x in nodes]
    assert index[0].tolist() == expected


def test_a_window_is_the_crop_of_a_larger_one():
    field = HashGrid(2, size_px=20, peak=None, **SMALL)
    large = field.window(Box(0, 0, 20, 20))[:, 4:9, 6:13]
    torch.testing.assert_close(field.window(Box(4, 6, 5, 7)), large)


def test_the_lookup_is_kept_for_the_box():
    scheme = Scheme(make_levels(2, 4, 2.0, 128), 20, (0, 0), signed=False)
    box = Box(0, 0, 20, 20)
    assert lookups(box, scheme, CPU)[0] is lookups(box, scheme, CPU)[0]


def test_the_start_is_small_and_the_two_nets_differ():
    torch.manual_seed(0)
    field = HashGrid(size_px=16, output_scale=1.0, peak=None)
    box = Box(0, 0, 16, 16)
    assert 0 < field.window(box).abs().max() < 1e-3
    assert field.amplitude.table.abs().max() <= 1e-4
    amplitude, phase = (field._read(n, box) for n in (field.amplitude, field.phase))
    assert not torch.equal(amplitude, phase)


def test_the_peak_is_held_over_all_modes():
    window = HashGrid(3, size_px=16, peak=2.0, **SMALL).window(Box(0, 0, 16, 16))
    assert float(window.detach().abs().max()) == pytest.approx(2)


def test_absolute_is_the_code_s_amplitude():
    field = HashGrid(size_px=16, peak=None, **SMALL)
    folded = HashGrid(size_px=16, peak=None, absolute=True, **SMALL)
    folded.load_state_dict(field.state_dict())
    box = Box(0, 0, 16, 16)
    turn = torch.exp(1j * field._read(field.phase, box))
    torch.testing.assert_close(folded.window(box) / turn, field.window(box).abs() + 0j)


def test_an_object_s_coordinates_span_what_was_covered_before_the_first_reading():
    field, told = (
        HashGrid(peak=None, **SMALL),
        HashGrid(size_px=30, origin_px=(-5, 7), peak=None, **SMALL),
    )
    told.load_state_dict(field.state_dict())
    assert field.cover(Box(-5, 7, 10, 10)) is False
    field.cover(Box(15, 17, 10, 10))
    inside, outside = Box(0, 10, 6, 6), Box(90, 90, 6, 6)
    torch.testing.assert_close(field.window(inside), told.window(inside))
    field.cover(outside)  # too late: what is learned stays where it is
    torch.testing.assert_close(field.window(inside), told.window(inside))


def test_an_object_of_another_kind_has_one_net():
    field = HashGrid(2, kind="phase", size_px=16, **SMALL)
    box = Box(0, 0, 16, 16)
    assert field.amplitude is None
    torch.testing.assert_close(field.window(box).abs(), torch.ones(2, 16, 16))


def test_flat_is_added_to_the_amplitude():
    empty = HashGrid(size_px=16, peak=None, output_scale=1.0, flat=1.0, **SMALL)
    window = empty.window(Box(0, 0, 16, 16))
    torch.testing.assert_close(window, torch.ones(1, 16, 16) + 0j, rtol=0, atol=1e-2)


def test_a_window_first_seen_by_a_snapshot_can_still_be_trained():
    field, box = HashGrid(size_px=13, **SMALL), Box(0, 0, 13, 13)
    with torch.inference_mode():
        field.window(box)
    field.window(box).abs().sum().backward()
    assert field.amplitude.table.grad.abs().max() > 0


def test_gradients_agree_with_finite_differences():
    torch.manual_seed(0)
    field = HashGrid(size_px=4, levels=2, base=2, width=3, output_scale=1e3).double()
    names = [name for name, _ in field.named_parameters()]

    def window(*values):
        given = dict(zip(names, values, strict=True))
        return torch.func.functional_call(field, given, (Box(0, 0, 4, 4),))

    field.forward = field.window
    leaves = [
        (p.detach() * (3e3 if "table" in name else 1)).requires_grad_()
        for name, p in field.named_parameters()
    ]
    assert torch.autograd.gradcheck(window, leaves)


def test_it_fits_a_uniform_random_probe():
    torch.manual_seed(0)
    amplitude, phase = torch.rand(2, 2, 16, 16)
    field = HashGrid(2, size_px=16, table=2**12, peak=None)
    box = Box(0, 0, 16, 16)
    curve = pretrain(field, torch.polar(amplitude, phase), box, steps=150, lr=1e-4)
    assert curve[0] > 0.05
    assert curve[-1] < 2e-3
