import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ptystream.physics.constraints import (
    clamp_amplitude,
    fix_energy,
    gram_schmidt,
    identical_slices,
    normalise_by_maximum,
    orthogonalise,
    positive,
    recentre,
    remove_mean_phase,
)
from ptystream.physics.forward import intensity

WIDE = torch.complex128


def modes(m: int = 3, k: int = 6, seed: int = 0) -> torch.Tensor:
    made = torch.Generator().manual_seed(seed)
    raw = torch.randn(m, k, k, dtype=WIDE, generator=made)
    return raw + raw.roll(1, 0) * 0.5  # not orthogonal


def gram(probe: torch.Tensor) -> torch.Tensor:
    flat = probe.flatten(1)
    return flat @ flat.mH


def powers(probe: torch.Tensor) -> torch.Tensor:
    return probe.abs().square().sum((1, 2))


@pytest.mark.parametrize("constraint", [orthogonalise, gram_schmidt])
@given(seed=st.integers(0, 99), m=st.integers(1, 5))
def test_modes_become_orthogonal_strongest_first(constraint, seed, m):
    probe = constraint(modes(m, seed=seed))
    overlaps = gram(probe)
    off = overlaps - torch.diag(overlaps.diag())
    assert off.abs().max() < 1e-10 * overlaps.abs().max()
    assert (powers(probe).diff() <= 1e-12 * powers(probe)[0]).all()


def test_gram_schmidt_keeps_each_power_and_the_strongest_mode():
    before, after = modes(), gram_schmidt(modes())
    expected, order = powers(before).sort(descending=True)
    torch.testing.assert_close(powers(after), expected)
    torch.testing.assert_close(after[0], before[order[0]])


def test_orthogonalise_changes_no_pattern_and_gram_schmidt_does():
    window = modes(1, 9, seed=4)
    place = torch.tensor([[1.2, 0.4]]).double()
    before = intensity(modes(), window, place)
    torch.testing.assert_close(intensity(orthogonalise(modes()), window, place), before)
    changed = intensity(gram_schmidt(modes()), window, place) - before
    assert changed.abs().max() > 0.01 * before.max()


def test_the_gradient_through_orthogonalise_is_that_of_the_patterns():
    window, place = modes(1, 9, seed=4), torch.tensor([[1.2, 0.4]]).double()
    target = torch.rand(1, 6, 6).double()

    def loss(probe):
        return (intensity(probe, window, place) - target).square().sum()

    def through(probe):
        return loss(orthogonalise(probe))

    probe = modes().requires_grad_()
    (direct,) = torch.autograd.grad(loss(probe), probe)
    (constrained,) = torch.autograd.grad(through(probe), probe)
    torch.testing.assert_close(constrained, direct)
    assert torch.autograd.gradcheck(through, [probe])


def test_equal_modes_have_a_finite_gradient():
    probe = torch.ones(2, 4, 4, dtype=WIDE, requires_grad=True)
    for constraint in (orthogonalise, gram_schmidt):
        out = constraint(probe).abs().square().sum()
        (gradient,) = torch.autograd.grad(out, probe)
        assert torch.isfinite(torch.view_as_real(gradient)).all()


def test_gradients_agree_with_finite_differences():
    probe = (modes() * torch.tensor([3.0, 2.0, 1.0])[:, None, None]).requires_grad_()
    for constraint in (
        gram_schmidt,
        normalise_by_maximum,
        identical_slices,
        recentre,
        clamp_amplitude,
        lambda p: fix_energy(p, 7.0),
    ):
        assert torch.autograd.gradcheck(constraint, [probe])


def test_slices_become_their_mean():
    volume = modes()
    same = identical_slices(volume)
    for one in same:
        torch.testing.assert_close(one, volume.mean(0))


def test_potential_is_clipped_at_zero():
    clipped = positive(torch.tensor([[[-1.0, 0.0, 2.0]]]))
    torch.testing.assert_close(clipped, torch.tensor([[[0.0, 0.0, 2.0]]]))


def test_amplitude_is_clamped_and_phase_kept():
    volume = modes()
    clamped = clamp_amplitude(volume, 0.2, 0.9)
    torch.testing.assert_close(clamped.abs(), volume.abs().clamp(0.2, 0.9))
    torch.testing.assert_close(clamped.angle(), volume.angle())
    assert torch.isfinite(clamp_amplitude(torch.zeros(1, 2, 2, dtype=WIDE)).abs()).all()


@given(st.floats(-20, 20))
def test_a_constant_phase_is_removed_wherever_it_wraps(offset):
    phase = torch.linspace(-1, 1, 10).double().expand(1, 4, 10)
    wave = torch.polar(torch.ones_like(phase), phase + offset)
    torch.testing.assert_close(remove_mean_phase(wave).angle(), phase)


def test_each_slice_loses_its_own_phase():
    turned = modes() * torch.polar(torch.ones(3), torch.tensor([1.0, -2.0, 3.0]))[
        :, None, None
    ].to(WIDE)
    means = remove_mean_phase(turned).sum((1, 2))
    torch.testing.assert_close(means.angle(), torch.zeros(3).double())


def test_scalings_keep_the_ratio_of_the_modes():
    probe = modes()
    peaked = normalise_by_maximum(probe, 2.5)
    assert float(peaked.abs().max()) == pytest.approx(2.5)
    fixed = fix_energy(probe, 1e4)
    assert float(powers(fixed).sum()) == pytest.approx(1e4)
    for scaled in (peaked, fixed):
        ratio = scaled / probe
        torch.testing.assert_close(ratio, ratio[0, 0, 0].expand(ratio.shape))


@pytest.mark.parametrize("k", [6, 7])
@given(y=st.integers(0, 6), x=st.integers(0, 6))
def test_recentre_rolls_the_brightest_pixel_to_the_middle(k, y, x):
    probe = modes(2, k) * 0.01
    probe[:, y % k, x % k] = 5
    centred = recentre(probe)
    assert (centred[:, k // 2, k // 2] == 5).all()
    torch.testing.assert_close(powers(centred), powers(probe))
    shift = (k // 2 - y % k, k // 2 - x % k)
    torch.testing.assert_close(centred, probe.roll(shift, (1, 2)))
