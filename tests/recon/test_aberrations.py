"""A probe's aberrations are turned back by a gradient that asks for it."""

import numpy as np
import pytest
import torch

from ptystream.recon.aberrations import BEYOND, Aberrations, pupil_terms

SIZE = 32
YES, NO = torch.tensor(True), torch.tensor(False)
Q = np.fft.fftfreq(SIZE, 1 / SIZE)
Y, X = Q[:, None] / 9, Q[None] / 9


def lens(*, defocus_rad: float = 0.0, astigmatism_rad: float = 0.0, **more: float):
    """Return the probe of a full disc of 9 px, one mode, phases at its rim."""
    turn = defocus_rad * (Y**2 + X**2) + astigmatism_rad * (Y**2 - X**2)
    turn = turn + more.get("coma_rad", 0.0) * Y * (Y**2 + X**2)
    turn = turn + more.get("tilt_rad", 0.0) * Y
    disc = 1 / (1 + np.exp(8 * (np.hypot(9 * Y, 9 * X) - 9)))
    return torch.from_numpy(np.fft.ifft2(disc * np.exp(1j * turn))[None]).to(
        torch.complex64
    )


def off(probe: torch.Tensor, truth: torch.Tensor) -> float:
    """Return how far a probe is from the truth, less a common phase."""
    overlap = (probe.conj() * truth).sum().abs() / probe.norm() / truth.norm()
    return float(1 - overlap)


def turned(first: torch.Tensor, truth: torch.Tensor, steps: int, **options):
    """Return the probe after steps against the gradient of ½ |P - truth|².

    Truth has a common phase that is free, as patterns leave it.
    """
    told = {"order": 4, "rate_rad": 0.03, "steps": 300, **options}
    aberrations, probe = Aberrations(first, **told), first
    for _ in range(steps):
        overlap = (truth.conj() * probe).sum()
        push = probe - truth * overlap / overlap.abs()
        probe = aberrations.turn(probe, push, 1.0, YES)
    return probe


@pytest.mark.parametrize(
    "wrong",
    [
        {"defocus_rad": 3.0},
        {"astigmatism_rad": -1.5},
        {"defocus_rad": -1.5, "coma_rad": 1.5},
    ],
)
def test_what_was_injected_is_turned_back(wrong):
    truth, first = lens(), lens(**wrong)
    assert off(first, truth) > 0.15
    assert off(turned(first, truth, 200), truth) < 0.03 * off(first, truth)


def test_terms_beyond_the_order_stay():
    truth, first = lens(), lens(coma_rad=1.5)
    low, high = (off(turned(first, truth, 200, order=n), truth) for n in (2, 3))
    assert high < 0.1 * low


def test_tilt_is_no_aberration():
    """It moves the probe: the object may move instead."""
    truth = lens()
    first = lens(tilt_rad=1.0)
    assert off(turned(first, truth, 100, order=2), truth) > 0.9 * off(first, truth)


def test_the_light_is_kept_at_each_frequency():
    first = lens(defocus_rad=1.0)
    made = turned(first, lens(), 50)
    assert (made - first).norm() > 0.1 * first.norm()
    torch.testing.assert_close(
        torch.fft.fft2(made).abs(), torch.fft.fft2(first).abs(), rtol=0, atol=1e-5
    )


def test_the_rate_falls_to_nothing_and_then_it_is_done():
    first, steps = lens(), 10
    aberrations = Aberrations(first, order=2, rate_rad=1e-3, steps=steps)
    probe, moved = first, []
    for _ in range(steps):
        assert not aberrations.done
        push = probe - lens(defocus_rad=1.0)  # far off, so all steps are of full size
        after = aberrations.turn(probe, push, 1.0, YES)
        moved.append(float((after - probe).norm()))
        probe = after
    assert aberrations.done
    left = [1 - n / steps for n in range(steps)]
    assert np.divide(moved, moved[0]) == pytest.approx(left, rel=0.1)


def test_a_first_step_is_the_rate_and_fades_with_it():
    first, moved = lens(), []
    for fade in (1.0, 0.25):
        aberrations = Aberrations(first, order=2, rate_rad=1e-3, steps=100)
        made = aberrations.turn(first, first - lens(defocus_rad=1.0), fade, YES)
        moved.append(float((made - first).norm() / first.norm()))
    assert moved[1] == pytest.approx(0.25 * moved[0], rel=1e-2)
    # y² and x² alike, the middle of the disc by less than its rim
    assert 0.3e-3 < moved[0] < 1e-3


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_a_step_that_is_not_finite_turns_nothing(poison):
    first = lens(defocus_rad=1.0)
    aberrations = Aberrations(first, order=4, rate_rad=0.03, steps=100)
    before = aberrations.turn(first, first - lens(), 1.0, YES)
    after = aberrations.turn(before, torch.full_like(first, poison), 1.0, NO)
    torch.testing.assert_close(after, before)  # nor does it go on as it went
    good = aberrations.turn(after, after - lens(), 1.0, YES)
    assert torch.isfinite(good.real).all()
    assert (good - after).norm() > 1e-3 * first.norm()


def test_a_mixture_is_turned_as_one():
    both = torch.cat([lens(defocus_rad=1.2), 0.3 * lens(defocus_rad=1.2).roll(2, 1)])
    truth = torch.cat([lens(), 0.3 * lens().roll(2, 1)])
    assert off(turned(both, truth, 200), truth) < 0.02


def test_the_terms_are_one_at_the_rim_and_bounded_beyond():
    terms = pupil_terms(lens(), 4)
    assert len(terms) == 3 + 4 + 5
    powers = [(i, n - i) for n in (2, 3, 4) for i in range(n + 1)]
    for term, (i, j) in zip(terms, powers, strict=True):
        wanted = (Y**i * X**j).clip(-BEYOND, BEYOND)
        inside = Y**2 + X**2 <= 1
        assert np.abs(term.numpy() - wanted)[inside].max() < 0.15
        assert term.abs().max() <= BEYOND
