import pytest
import torch

from ptystream.physics.forward import (
    Background,
    cut,
    exit_waves,
    fly_intensity,
    intensity,
    near_field,
    polar,
    quadrature,
    split,
    transmission,
)
from ptystream.physics.propagate import (
    angular_spectrum,
    convolve,
    far_field,
    fourier_shift,
    fresnel,
)

WIDE = torch.complex128


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    made = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=WIDE, generator=made)


def between(size: int) -> torch.Tensor:
    return angular_spectrum(
        (size, size),
        wavelength_m=1e-10,
        distance_m=1e-6,
        pixel_m=(8e-9, 8e-9),
        dtype=WIDE,
    )


PLACES = torch.tensor([[0.0, 1.0], [2.3, 0.6], [1.49, 2.5]]).double()


def test_the_step_scan_is_what_the_equation_says():
    probe, window = noise(2, 6, 6), noise(1, 9, 9, seed=1)
    got = intensity(probe, window, PLACES)
    for pattern, place in zip(got, PLACES, strict=True):
        y, x = place.round().int().tolist()
        moved = fourier_shift(probe, place - place.round())
        waves = moved * window[0, y : y + 6, x : x + 6]
        expected = far_field(waves).abs().square().sum(0)
        torch.testing.assert_close(pattern, expected)


def test_empty_space_passes_every_photon_of_every_mode():
    probe, window = noise(3, 8, 8), torch.ones(1, 12, 12, dtype=WIDE)
    sums = intensity(probe, window, PLACES).sum((1, 2))
    torch.testing.assert_close(sums, probe.abs().square().sum().expand(3))


def test_single_precision_agrees_with_double():
    probe, window = noise(2, 16, 16), noise(2, 20, 20, seed=1)
    fine = intensity(probe, window, PLACES, between=between(16))
    coarse = intensity(
        probe.to(torch.complex64),
        window.to(torch.complex64),
        PLACES.float(),
        between=between(16).to(torch.complex64),
    )
    torch.testing.assert_close(coarse.double(), fine, rtol=0, atol=2e-5 * fine.max())


def test_empty_slices_are_free_propagation():
    probe, slices = noise(3, 2, 8, 8), torch.ones(3, 4, 8, 8, dtype=WIDE)
    got = exit_waves(probe, slices, between(8))
    kernel = between(8)
    expected = convolve(convolve(convolve(probe, kernel), kernel), kernel)
    torch.testing.assert_close(got, expected)


def test_slices_pass_in_order():
    probe, slices = noise(1, 1, 8, 8), noise(1, 2, 8, 8, seed=1)
    got = exit_waves(probe, slices, between(8))
    expected = convolve(probe * slices[:, :1], between(8)) * slices[:, 1:]
    torch.testing.assert_close(got, expected)


def test_several_slices_need_a_kernel():
    with pytest.raises(ValueError, match="3 slices"):
        exit_waves(noise(1, 1, 4, 4), noise(1, 3, 4, 4))


@pytest.mark.parametrize("corner", [[-1, 0], [0, -1], [5, 0], [0, 5]])
def test_a_patch_outside_the_window_is_refused(corner):
    with pytest.raises(ValueError, match="leaves the window"):
        cut(noise(1, 8, 8), torch.tensor([corner]), 4)


def test_the_remainder_is_at_most_half_a_pixel():
    corner, rest = split(PLACES)
    assert rest.abs().max() <= 0.5
    torch.testing.assert_close(corner + rest, PLACES)


def test_near_field_sees_the_shadow_and_the_free_wave():
    kernel = fresnel((8, 8), fresnel_number=(0.5, 0.5), dtype=WIDE)
    probe, window = noise(1, 8, 8), noise(1, 11, 11, seed=1)
    got = intensity(probe, window, PLACES[:1], detector=near_field(kernel))
    expected = convolve(probe * window[:, 0:8, 1:9], kernel).abs().square()
    torch.testing.assert_close(got, expected)
    sharp = fresnel((8, 8), fresnel_number=(1e9, 1e9), dtype=WIDE)
    shadow = intensity(probe, window, PLACES[:1], detector=near_field(sharp))
    torch.testing.assert_close(shadow, (probe * window[:, 0:8, 1:9]).abs().square())


@pytest.mark.parametrize("rule", ["gauss", "midpoint"])
def test_a_fly_scan_that_stands_still_is_a_step_scan(rule):
    probe, window = noise(2, 6, 6), noise(2, 9, 9, seed=1)
    extra = {"between": between(6), "background": torch.rand(6, 6).double()}
    step = intensity(probe, window, PLACES, **extra)
    fly = fly_intensity(probe, window, PLACES, PLACES, points=4, rule=rule, **extra)
    torch.testing.assert_close(fly, step)


def test_a_fly_scan_is_the_mean_over_its_path():
    line = torch.arange(40).double()
    window = torch.exp(1j * torch.sin(line[:, None] / 5) * torch.cos(line / 4))[None]
    r2 = (line[:24, None] - 12) ** 2 + (line[:24] - 12) ** 2
    probe = torch.exp(-r2 / 18)[None].to(WIDE)
    start = torch.tensor([[2.0, 3.0]]).double()
    end = start + torch.tensor([0.4, 5.2])
    dense = fly_intensity(probe, window, start, end, points=400, rule="midpoint")
    scale = dense.max()
    gauss = fly_intensity(probe, window, start, end, points=6)
    middle = fly_intensity(probe, window, start, end, points=1)
    assert (gauss - dense).abs().max() < 1e-3 * scale
    assert (middle - dense).abs().max() > 1e-2 * scale


@pytest.mark.parametrize("rule", ["gauss", "midpoint"])
@pytest.mark.parametrize("points", [1, 2, 5])
def test_quadratures_integrate_what_they_promise(rule, points):
    pairs = quadrature(points, rule)
    degree = 2 * points - 1 if rule == "gauss" else 1
    for power in range(degree + 1):
        total = sum(w * x**power for x, w in pairs)
        assert total == pytest.approx(1 / (power + 1))


def test_unknown_quadratures_are_refused():
    with pytest.raises(ValueError, match="simpson"):
        quadrature(3, "simpson")
    with pytest.raises(ValueError, match="at least one"):
        quadrature(0)


def test_gradients_agree_with_finite_differences():
    probe, window = noise(2, 4, 4), noise(2, 6, 6, seed=1)
    start = torch.tensor([[0.2, 1.3], [1.7, 0.4]]).double()
    moved = start + torch.tensor([0.05, 0.1])
    kernel, spread = between(4), torch.rand(4, 4).double()

    def model(probe, window, start, end, background):
        return fly_intensity(
            probe, window, start, end, points=2, between=kernel, background=background
        )

    leaves = [t.requires_grad_() for t in (probe, window, start, moved, spread)]
    assert torch.autograd.gradcheck(model, leaves)


def test_phase_and_potential_are_transparent_and_potential_is_positive():
    raw = torch.linspace(-1, 1, 12).reshape(1, 3, 4)
    phase = transmission(raw, "phase")
    torch.testing.assert_close(phase.abs(), torch.ones(1, 3, 4))
    torch.testing.assert_close(phase.angle(), raw)
    potential = transmission(raw, "potential")
    torch.testing.assert_close(potential.angle(), (1 + raw.exp()).log())
    with pytest.raises(ValueError, match="polar"):
        transmission(raw, "complex")


def test_polar_has_the_right_gradient_at_any_amplitude():
    amplitude = torch.tensor([[-0.5, 0.0, 0.5]]).double().requires_grad_()
    phase = torch.tensor([[0.3, -2.0, 4.0]]).double().requires_grad_()
    assert torch.autograd.gradcheck(polar, [amplitude, phase])


def test_background_adds_learns_and_stays_positive():
    background = Background((6, 6), start_counts=0.25)
    torch.testing.assert_close(background(), torch.full((6, 6), 0.25))
    probe, window = (t.to(torch.complex64) for t in (noise(1, 6, 6), noise(1, 9, 9)))
    places = PLACES.float()
    dark = intensity(probe, window, places)
    lit = intensity(probe, window, places, background=background())
    torch.testing.assert_close(lit - dark, torch.full((3, 6, 6), 0.25))
    lit.sum().backward()
    assert background.root.grad is not None
    with torch.no_grad():
        background.root.fill_(-2)
    assert (background() > 0).all()
