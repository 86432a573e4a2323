"""What held-out exposures tell, and what of it nothing could predict."""

import math

import numpy as np
import pytest
import torch

from ptystream.models.field import Box
from ptystream.recon.learners import rms
from ptystream.recon.options import ProbeOptions
from ptystream.recon.quality import Misfit, misfit, root_variance
from tests.recon.general_scan import MARGIN, GeneralScan

RATES = [1e-6, 0.01, 0.2, 1.0, 1.7, 3.3, 10.0, 40.0, 63.0, 65.0]


def summed(rate: float) -> float:
    """Return E (√n - √rate)², term by term."""
    total, share = 0.0, math.exp(-rate)
    for n in range(400):
        total += share * (math.sqrt(n) - math.sqrt(rate)) ** 2
        share *= rate / (n + 1)
    return total


def sums(got: Misfit) -> list[torch.Tensor]:
    """Return all but the number of pixels."""
    return [torch.as_tensor(v) for v in (*got[:5], *got[6:])]


def test_the_noise_of_a_root_is_the_poisson_sum():
    got = root_variance(torch.tensor(RATES))
    assert got.tolist() == pytest.approx([summed(r) for r in RATES], rel=5e-3)
    assert float(root_variance(torch.linspace(0, 4, 99)).max()) > 0.45


def test_the_noise_of_many_photons_is_a_quarter():
    many = torch.tensor([100.0, 1e4, 1e8, torch.inf])
    assert root_variance(many).tolist() == pytest.approx(4 * [0.25], rel=8e-3)


def test_the_noise_of_what_is_not_known_is_not_known():
    got = root_variance(torch.tensor([[math.nan, 1.0]]))
    assert got.isnan().tolist() == [[True, False]]


@pytest.mark.parametrize("photons", [0.3, 4.0, 300.0])
def test_with_the_truth_only_the_noise_is_left(photons):
    g = torch.Generator().manual_seed(0)
    truth = torch.rand(8, 64, 64, generator=g) + 0.1
    counts = torch.poisson(truth.square() * photons, generator=g)
    measured = (counts / photons).sqrt()
    mask = torch.rand(64, 64, generator=g) > 0.2
    for used in (None, mask):
        told = {"photons": photons, "mask": used}
        right = misfit(truth, torch.ones_like(truth), measured, **told)
        assert float(right.error / right.noise) == pytest.approx(1, rel=0.03)
        wrong = misfit(0.8 * truth + 0.2, truth, measured, **told)
        assert wrong.error > right.error


def test_masked_pixels_count_in_no_sum_and_sums_add_up():
    g = torch.Generator().manual_seed(1)
    model, flat, measured = torch.rand(3, 2, 6, 6, generator=g)
    mask = torch.rand(2, 6, 6, generator=g) > 0.3
    one = misfit(model, flat, measured, photons=5.0, mask=mask)
    spoilt = torch.where(mask, measured, 1e3)
    masked = misfit(model, flat, spoilt, photons=5.0, mask=mask)
    assert all(torch.equal(a, b) for a, b in zip(sums(masked), sums(one), strict=True))
    assert one.pixels == int(mask.sum())
    assert [float(v) for v in sums(one.plus(one))[:5]] == [
        2 * float(v) for v in sums(one)[:5]
    ]
    assert one.plus(one).excess.tolist() == 2 * one.excess.tolist()


def test_the_excess_of_each_exposure_sums_to_error_less_noise():
    g = torch.Generator().manual_seed(3)
    model, measured = torch.rand(2, 4, 6, 6, generator=g)
    mask = torch.ones(6, 6, dtype=torch.bool)
    mask[:3] = False
    got = misfit(model, model, measured, photons=9.0, mask=mask)
    alone = [
        misfit(m[None], m[None], a[None], photons=9.0, mask=mask)
        for m, a in zip(model, measured, strict=True)
    ]
    assert got.excess.tolist() == pytest.approx([float(x.excess[0]) for x in alone])
    assert float(got.excess.sum()) == pytest.approx(float(got.error - got.noise))
    light = model.square()
    share = light[:, 3:].sum((1, 2)) / light.sum((1, 2))
    assert got.believed.tolist() == pytest.approx(share.tolist())


def test_an_empty_object_is_scaled_to_the_measured_light():
    g = torch.Generator().manual_seed(2)
    measured = torch.rand(2, 6, 6, generator=g)
    for scale in (0.1, 1.0, 7.0):
        got = misfit(measured, scale * measured, measured, photons=9.0, mask=None)
        assert float(got.flat) < 1e-9
        assert abs(float(got.deviance)) < 1e-4


@pytest.mark.parametrize("photons", [2e3, 1e5])
def test_a_reconstruction_that_is_the_truth_has_no_error_but_noise(photons):
    scan = GeneralScan(lines=8)
    recon = scan.reconstruction(photons, probe=ProbeOptions(known=True))
    truth = torch.from_numpy(scan.objects[:, MARGIN:-MARGIN, MARGIN:-MARGIN])
    light = scan.intensities()[:8].mean()  # the gauge: that of the first exposures
    gain = np.sqrt(np.mean(np.abs(scan.probes) ** 2) / light)
    recon.step()  # without a step nothing is measured
    recon.stages.begin(Box(0, 0, *truth.shape[1:]), gain * truth)
    quality = recon.measure()
    assert quality.held_out_error == pytest.approx(quality.noise_error, rel=0.1)
    assert rms(recon.probe.window(recon._frame).detach()) == pytest.approx(1, rel=1e-5)
    recon.stages.begin(Box(0, 0, *truth.shape[1:]), 0.9 * gain * truth)
    assert recon.measure().held_out_error > 1.5 * quality.noise_error
