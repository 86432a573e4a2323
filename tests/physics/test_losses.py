import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ptystream.physics.losses import (
    amplitude_l1,
    amplitude_l2,
    poisson_deviance,
    probe_amplitude,
    smooth_l1,
    surface_zero,
    total_variation,
)

LOSSES = [smooth_l1, amplitude_l1, amplitude_l2, poisson_deviance]


def patterns(b: int = 3, n: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    made = torch.Generator().manual_seed(3)
    predicted = torch.rand(b, n, n, generator=made).double() * 20 + 0.1
    return predicted, torch.poisson(predicted, generator=made)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_perfect_model_costs_nothing(loss):
    _, counts = patterns()
    torch.testing.assert_close(loss(counts, counts), torch.zeros(()).double())


@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_agree_with_finite_differences(loss):
    predicted, counts = patterns()
    predicted.requires_grad_()
    assert torch.autograd.gradcheck(lambda p: loss(p, counts), [predicted])


@given(st.floats(1e-3, 2), st.floats(0, 5), st.floats(0, 5))
def test_smooth_l1_is_equation_2(beta, a, b):
    predicted, counts = torch.tensor([a**2, b**2], dtype=torch.float64)
    got = smooth_l1(predicted.reshape(1, 1, 1), counts.reshape(1, 1, 1), beta=beta)
    d = abs(a - b)
    expected = d**2 / (2 * beta) if d < beta else d - beta / 2
    assert float(got) == pytest.approx(expected, abs=1e-9)


def test_l1_l2_and_relative_by_hand():
    predicted, counts = torch.tensor([[[4.0, 9.0]]]), torch.tensor([[[1, 25]]])
    assert float(amplitude_l1(predicted, counts)) == pytest.approx((1 + 2) / 2)
    assert float(amplitude_l2(predicted, counts)) == pytest.approx((1 + 4) / 2)
    relative = amplitude_l2(predicted, counts, relative=True)
    assert float(relative) == pytest.approx(5 / 26)


@given(st.floats(0.5, 100), st.integers(0, 100))
def test_the_deviance_is_twice_the_log_likelihood_ratio(mean, n):
    predicted, counts = torch.tensor([mean, n], dtype=torch.float64)
    got = poisson_deviance(predicted.reshape(1, 1, 1), counts.reshape(1, 1, 1))
    log_ratio = (n * math.log(n / mean) if n else 0.0) - n + mean
    assert float(got) == pytest.approx(2 * log_ratio, abs=1e-3)
    assert float(got) >= -1e-12


def test_the_deviance_of_the_true_model_is_about_one():
    made = torch.Generator().manual_seed(0)
    mean = torch.full((1, 200, 200), 50.0)
    counts = torch.poisson(mean, generator=made)
    assert float(poisson_deviance(mean, counts)) == pytest.approx(1, abs=0.03)


def test_a_photon_where_none_was_predicted_stays_finite():
    predicted = torch.zeros(1, 1, 2, requires_grad=True)
    loss = poisson_deviance(predicted, torch.tensor([[[0, 3]]]))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(predicted.grad).all()


@pytest.mark.parametrize("loss", LOSSES[:3])
def test_zero_intensity_has_a_finite_gradient(loss):
    wave = torch.zeros(1, 2, 2, dtype=torch.complex64, requires_grad=True)
    loss(wave.abs().square(), torch.ones(1, 2, 2)).backward()
    assert torch.isfinite(torch.view_as_real(wave.grad)).all()


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -1.0, 2.0**32])
@pytest.mark.parametrize("per_pattern", [False, True])
def test_masked_pixels_touch_nothing(loss, bad, per_pattern):
    predicted, counts = patterns(2, 4)
    mask = torch.ones(4, 4, dtype=torch.bool)
    mask[1] = False
    if per_pattern:
        mask = mask.expand(2, 4, 4)
    spoilt = torch.where(mask, counts, bad)
    predicted.requires_grad_()
    value = loss(predicted, spoilt, mask=mask)
    (gradient,) = torch.autograd.grad(value, predicted)
    kept = [0, 2, 3]
    expected = loss(predicted[:, kept], counts[:, kept])
    torch.testing.assert_close(value, expected)
    assert (gradient[:, 1] == 0).all()
    assert (gradient[:, kept] != 0).any()


@pytest.mark.parametrize("loss", LOSSES)
def test_nothing_left_by_the_mask_costs_nothing(loss):
    predicted, counts = patterns()
    assert float(loss(predicted, counts, mask=torch.zeros(4, 4).bool())) == 0


def test_unsigned_counts_are_taken():
    predicted = torch.full((1, 2, 2), 9.0)
    counts = torch.full((1, 2, 2), 4, dtype=torch.uint16)
    assert float(amplitude_l1(predicted, counts)) == pytest.approx(1)


def test_probe_amplitude_is_the_mean():
    probe = torch.tensor([[[3 + 4j, 0], [0, 1]]])
    assert float(probe_amplitude(probe)) == pytest.approx(6 / 4)


def test_tv_of_a_step_and_of_a_stack():
    volume = torch.zeros(2, 4, 5)
    volume[:, :, 3:] = 2.0  # one edge, 4 rows, 2 slices
    assert float(total_variation(volume, weight_xy=1.0)) == pytest.approx(16 / 40)
    volume[1] += 3  # every voxel differs by 3 along z: 20 pairs
    both = total_variation(volume, weight_xy=0.5, weight_z=0.1)
    assert float(both) == pytest.approx((0.5 * 16 + 0.1 * 60) / 40)


def test_the_published_tv_is_the_mean_along_each_axis_over_their_number():
    volume = torch.rand(3, 4, 5)
    means = [volume.diff(dim=axis).abs().mean() for axis in range(3)]
    got = total_variation(volume, weight_xy=2.0, weight_z=0.5, published=True)
    torch.testing.assert_close(got, (0.5 * means[0] + 2 * means[1] + 2 * means[2]) / 3)
    flat = total_variation(volume, weight_xy=2.0, published=True)
    torch.testing.assert_close(flat, means[1] + means[2])


def test_complex_tv_sums_amplitude_and_phase_and_sees_no_wrap():
    phase = torch.linspace(-9, 9, 12).expand(1, 5, 12)
    wave = torch.polar(torch.ones(1, 5, 12), phase)
    expected = total_variation(phase, weight_xy=1.0)
    torch.testing.assert_close(total_variation(wave, weight_xy=1.0), expected)
    amplitude = torch.linspace(1, 2, 12).expand(1, 5, 12)
    both = total_variation(torch.polar(amplitude, phase), weight_xy=1.0)
    torch.testing.assert_close(
        both, expected + total_variation(amplitude, weight_xy=1.0)
    )


def test_surface_zero_sees_the_ends_only():
    volume = torch.zeros(4, 2, 5)
    volume[1:3] = 7
    assert float(surface_zero(volume, weight=1.0)) == 0
    volume[0, 0, 0], volume[3, 1, 1] = -4, 6
    got = surface_zero(volume, weight=0.3)
    assert float(got) == pytest.approx(0.3 / (2 * 10) * (4 + 6))
    code = surface_zero(volume, weight=0.3, published=True)
    assert float(code) == pytest.approx(0.3 / 10 * (4 + 6))


def test_surface_zero_of_a_transmission_measures_from_empty():
    empty = torch.polar(torch.ones(3, 4, 4), torch.full((3, 4, 4), 2.5))
    assert float(surface_zero(empty, weight=1.0)) == pytest.approx(0, abs=1e-6)
    absorbing = empty.clone()
    absorbing[0] *= 0.8
    assert float(surface_zero(absorbing, weight=1.0)) == pytest.approx(0.1, rel=1e-4)
