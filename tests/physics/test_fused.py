"""The hand-written adjoint against automatic differentiation in double precision."""

import pytest
import torch

from ptystream.physics.fused import Patterns, gradients, predict

SIZE, BATCH, SIDE = 12, 3, 20


@pytest.fixture
def problem() -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(3)

    def waves(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.complex64)

    return {
        "window": 1 + 0.3 * waves(SIDE, SIDE),
        "probe": waves(2, SIZE, SIZE),
        "corners": torch.randint(0, SIDE - SIZE, (BATCH, 2), generator=g),
        "shift": torch.rand(BATCH, 2, generator=g) - 0.5,
        "amplitude": waves(BATCH, SIZE, SIZE).abs(),
        "mask": torch.rand(SIZE, SIZE, generator=g) > 0.2,
    }


def reference(window, probe, patterns: Patterns, beta: float) -> torch.Tensor:
    """The same loss, written plainly: shift, multiply, fft2, fftshift, smooth-L1."""
    f = torch.fft.fftfreq(SIZE, dtype=torch.float64)
    total = torch.zeros((), dtype=torch.float64)
    for b, (y, x) in enumerate(patterns.corners.tolist()):
        wave = probe
        if patterns.shift_px is not None:
            dy, dx = patterns.shift_px[b].double()
            ramp = torch.exp(-2j * torch.pi * (f[:, None] * dy + f[None] * dx))
            wave = torch.fft.ifft2(torch.fft.fft2(probe) * ramp)
        exit_wave = wave * window[y : y + SIZE, x : x + SIZE]
        far = torch.fft.fftshift(torch.fft.fft2(exit_wave, norm="ortho"), dim=(1, 2))
        model = (far.abs().square().sum(0) + 1e-12).sqrt()
        used = patterns.mask if patterns.mask is not None else torch.ones(1, 1).bool()
        gap = (model - patterns.amplitude[b].double()) * used
        total = total + beta * torch.nn.functional.smooth_l1_loss(
            gap, torch.zeros_like(gap), beta=beta, reduction="sum"
        )
    return total


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("beta", [0.1, 100.0])
def test_gradients_are_those_of_the_plain_loss(problem, shifted, masked, beta):
    patterns = Patterns(
        problem["corners"],
        problem["shift"] if shifted else None,
        problem["amplitude"],
        problem["mask"] if masked else None,
    )
    window = problem["window"].to(torch.complex128).requires_grad_()
    probe = problem["probe"].to(torch.complex128).requires_grad_()
    loss = reference(window, probe, patterns, beta)
    loss.backward()

    got = gradients(problem["window"], problem["probe"], patterns, beta=beta)

    torch.testing.assert_close(
        beta * got.loss.sum().double() * SIZE**2, loss.detach(), rtol=1e-5, atol=1e-4
    )
    for mine, theirs in ((got.by_window, window.grad), (got.by_probe, probe.grad)):
        torch.testing.assert_close(
            mine, theirs.to(torch.complex64), rtol=1e-4, atol=1e-4
        )


def test_preconditioners_are_the_light_and_the_transmission(problem):
    patterns = Patterns(problem["corners"], None, problem["amplitude"])
    got = gradients(problem["window"], problem["probe"], patterns, beta=1.0)
    light = torch.zeros(SIDE, SIDE)
    through = torch.zeros(SIZE, SIZE)
    for y, x in problem["corners"].tolist():
        light[y : y + SIZE, x : x + SIZE] += problem["probe"].abs().square().sum(0)
        patch = problem["window"][y : y + SIZE, x : x + SIZE]
        through += patch.abs().square()
    torch.testing.assert_close(got.illumination, light)
    torch.testing.assert_close(got.transmission, through.mean())


def test_a_held_probe_gets_no_gradient(problem):
    patterns = Patterns(problem["corners"], None, problem["amplitude"])
    kept = gradients(
        problem["window"], problem["probe"], patterns, beta=1.0, probe_too=False
    )
    learned = gradients(problem["window"], problem["probe"], patterns, beta=1.0)
    assert not kept.by_probe.any()
    torch.testing.assert_close(kept.by_window, learned.by_window)


def test_prediction_conserves_photons_and_shifts_nothing_but_phase(problem):
    empty = torch.ones(SIDE, SIDE, dtype=torch.complex64)
    on_grid = Patterns(problem["corners"], None, problem["amplitude"])
    beside = Patterns(problem["corners"], problem["shift"], problem["amplitude"])
    seen = predict(empty, problem["probe"], on_grid)
    light = problem["probe"].abs().square().sum()
    torch.testing.assert_close(seen.square().sum((1, 2)), light.expand(BATCH))
    torch.testing.assert_close(predict(empty, problem["probe"], beside), seen)


def test_a_shift_of_one_pixel_is_the_next_patch(problem):
    """On a periodic object, moving the probe by +1 px equals the window at +1."""
    tiled = problem["window"][:SIZE, :SIZE].repeat(3, 3)
    probe = problem["probe"] * torch.hann_window(SIZE).outer(torch.hann_window(SIZE))
    probe[:, -1] = probe[:, :, -1] = 0
    here = torch.tensor([[SIZE, SIZE]])
    target = problem["amplitude"][:1]
    moved = Patterns(here, torch.tensor([[1.0, 0.0]]), target)
    onward = Patterns(here + torch.tensor([[1, 0]]), None, target)
    torch.testing.assert_close(
        predict(tiled, probe, moved),
        predict(tiled, probe, onward),
        rtol=1e-4,
        atol=1e-4,
    )
