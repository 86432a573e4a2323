"""The shared operators, against the forward models and against formulas."""

import numpy as np
import pytest
import torch

from ptystream.models.field import Box
from ptystream.physics import forward, fused
from ptystream.recon.classical.optics import Optics
from ptystream.recon.classical.problem import Problem
from tests.recon.classical.phantom import noise, projected, tiny

ALL = slice(None)


def beside_grid(*, modes: int = 2, **more: object) -> Problem:
    scan = tiny(modes=modes)
    problem = scan.problem()
    return Problem(
        amplitude=problem.amplitude,
        corner_px=problem.corner_px
        + torch.tensor([[0.3, -0.2], [0, 0.1], [-0.4, 0.2]]),
        probe=problem.probe,
        object=scan.start(),
        box=problem.box,
        **more,  # type: ignore[arg-type]
    )


def modelled(problem: Problem) -> torch.Tensor:
    """Return the intensities, zero frequency in the centre."""
    assert problem.object is not None
    waves = Optics(problem).views(problem.object, problem.probe, ALL).waves()
    far = torch.fft.fftshift(torch.fft.fft2(waves, norm="ortho"), dim=(-2, -1))
    return far.abs().square().sum(1)


def test_the_waves_are_those_of_the_differentiable_forward_model() -> None:
    problem = beside_grid()
    assert problem.object is not None
    expected = forward.intensity(problem.probe, problem.object[None], problem.corner_px)
    torch.testing.assert_close(modelled(problem), expected)


def test_the_waves_are_those_of_the_live_engine() -> None:
    problem = beside_grid()
    assert problem.object is not None
    corners, shift = forward.split(problem.corner_px)
    patterns = fused.Patterns(corners, shift, problem.amplitude)
    expected = fused.predict(problem.object, problem.probe, patterns).square()
    # Where Nyquist goes for an even size differs between the two; noise fills it.
    ours = modelled(problem)
    assert (ours - expected).norm() / expected.norm() < 1e-6


def test_positions_are_rounded_when_told_so() -> None:
    problem = beside_grid(subpixel=False)
    assert problem.object is not None
    expected = forward.intensity(
        problem.probe, problem.object[None], problem.corner_px.round()
    )
    torch.testing.assert_close(modelled(problem), expected)


def test_halves_of_a_pixel_and_far_places_keep_their_digits() -> None:
    """float32 has steps of 0.06 px at 10⁶ px; 0.5 rounds to 0, and -0.5 too."""
    scan = tiny()
    corner = torch.tensor([[0.5, 1.5], [2.5, 3.5], [3.25, 4.0]], dtype=torch.float64)
    near, far = (
        Problem(
            amplitude=torch.from_numpy(scan.amplitude).float(),
            corner_px=corner + away,
            probe=torch.from_numpy(scan.probe),
            object=scan.start(),
            box=Box(int(away), int(away), 7, 8),
        )
        for away in (0.0, 1e6)
    )
    torch.testing.assert_close(modelled(near), modelled(far))
    odd = Problem(amplitude=near.amplitude, corner_px=corner + 1, probe=near.probe)
    assert Optics(odd).corners.amin() >= 0


@pytest.mark.parametrize("on_grid", [True, False])
def test_scatter_is_the_adjoint_of_the_patches_and_of_the_shift(on_grid: bool) -> None:
    rng = np.random.default_rng(1)
    problem = tiny(modes=2).problem() if on_grid else beside_grid()
    optics = Optics(problem)
    made = torch.from_numpy(noise(rng, (7, 8)))
    probe = torch.from_numpy(noise(rng, (2, 4, 4)))
    views = optics.views(made, probe, ALL)
    cut = torch.from_numpy(noise(rng, (3, 4, 4)))
    by_mode = torch.from_numpy(noise(rng, (3, 2, 4, 4)))
    laid = optics.add_patches(torch.zeros_like(made), cut, ALL)
    torch.testing.assert_close(dot(views.patch, cut), dot(made, laid))
    back = optics.sum_modes(by_mode, ALL)
    lying = views.modes.expand(3, -1, -1, -1)
    torch.testing.assert_close(dot(lying, by_mode), dot(probe, back))


def dot(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return (a.conj() * b).sum()


@pytest.mark.parametrize("modes", [1, 3])
def test_projection_gives_the_measured_amplitudes_and_keeps_the_phases(
    modes: int,
) -> None:
    scan = tiny(modes=modes)
    waves = noise(np.random.default_rng(2), (3, modes, 4, 4))
    change, misfit = Optics(scan.problem()).to_measured(torch.from_numpy(waves), ALL)
    pairs = zip(waves, scan.amplitude, strict=True)
    expected = np.array([projected(w, a) for w, a in pairs])
    np.testing.assert_allclose(waves + change.numpy(), expected, atol=1e-12)
    # By Parseval, a projection moves by as much as the amplitudes are off.
    np.testing.assert_allclose(float(misfit), (np.abs(change.numpy()) ** 2).sum())


def test_what_does_not_count_keeps_its_modelled_value() -> None:
    scan = tiny()
    mask = torch.ones(4, 4, dtype=torch.bool)
    mask[0, 1] = False
    problem = scan.problem(mask=mask)
    problem.amplitude[1, 2, 3] = torch.nan
    problem.amplitude[2, 0, 0] = -1
    waves = torch.from_numpy(noise(np.random.default_rng(3), (3, 1, 4, 4)))
    optics = Optics(problem)
    change, misfit = optics.to_measured(waves, ALL)
    far = torch.fft.fftshift(torch.fft.fft2(waves, norm="ortho"), dim=(-2, -1))
    new = torch.fft.fftshift(torch.fft.fft2(waves + change, norm="ortho"), dim=(-2, -1))
    out = ~mask.expand(3, 4, 4).clone()
    out[1, 2, 3] = out[2, 0, 0] = True
    torch.testing.assert_close(new[:, 0][out], far[:, 0][out])
    torch.testing.assert_close(new[:, 0][~out].abs(), problem.amplitude[~out])
    off = (far[:, 0][~out].abs() - problem.amplitude[~out]).square().sum()
    torch.testing.assert_close(misfit, off)
    torch.testing.assert_close(optics.power, problem.amplitude[~out].square().sum())


def test_a_dark_wave_stays_finite() -> None:
    optics = Optics(tiny().problem())
    change, _ = optics.to_measured(torch.zeros(3, 1, 4, 4, dtype=torch.cdouble), ALL)
    assert bool((change == 0).all())


def test_patterns_without_light_are_refused() -> None:
    problem = tiny().problem()
    problem.amplitude.zero_()
    with pytest.raises(ValueError, match="light"):
        Optics(problem)
