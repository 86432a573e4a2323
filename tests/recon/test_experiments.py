"""What any experiment must obey, the fast way and the general one alike."""

from itertools import product

import pytest
import torch

from ptystream.physics.forward import near_field
from ptystream.physics.fused import Patterns
from ptystream.physics.propagate import angular_spectrum, convolve, fresnel
from ptystream.recon.optics import FusedOptics, GeneralOptics, Optics, Shots, Way

SIZE, SIDE, BATCH = 16, 28, 5
SINGLE, DOUBLE = torch.complex64, torch.complex128


def kernel(kind: torch.dtype) -> torch.Tensor:
    """Return free space over a slice."""
    return angular_spectrum(
        (SIZE, SIZE),
        wavelength_m=1e-10,
        distance_m=2e-4,
        pixel_m=(2e-8, 2e-8),
        dtype=kind,
    )


def near(kind: torch.dtype) -> Way:
    number = fresnel((SIZE, SIZE), fresnel_number=(0.3, 0.3), dtype=kind)
    return Way(detector=near_field(number))


def optics(name: str, kind: torch.dtype = SINGLE, loss: str = "smooth_l1") -> Optics:
    """Return an experiment of that name: ``fast`` alone takes no other loss."""
    if name == "fast":
        return FusedOptics(beta=0.5)
    ways = {
        "far": Way(),
        "near": near(kind),
        "slices": Way(between=kernel(kind)),
        "fly": Way(points=3),
    }
    return GeneralOptics(ways[name], loss=loss, beta=0.5)


NAMES = ("fast", "far", "near", "slices", "fly")


def a_batch(name: str, kind: torch.dtype = SINGLE) -> tuple:
    """Return window, probe and shots; the shots lie beside the grid, and move."""
    g = torch.Generator().manual_seed(0)
    slices = 3 if name == "slices" else 1
    window = 1 + 0.3 * torch.randn(slices, SIDE, SIDE, generator=g, dtype=DOUBLE)
    probe = torch.randn(2, SIZE, SIZE, generator=g, dtype=DOUBLE)
    corners = torch.randint(2, SIDE - SIZE - 2, (BATCH, 2), generator=g)
    beside = torch.rand(BATCH, 2, generator=g, dtype=torch.double) - 0.5
    seen = torch.rand(BATCH, SIZE, SIZE, generator=g, dtype=torch.double) * 2
    real = torch.finfo(kind).dtype
    patterns = Patterns(corners, beside.to(getattr(torch, real)), seen.to(kind).real)
    ends = torch.stack([beside - 0.7, beside + 0.9], 1)
    path = ends.to(patterns.amplitude) if name == "fly" else None
    return window.to(kind), probe.to(kind), Shots(patterns, path)


@pytest.mark.parametrize("name", NAMES)
def test_no_photon_is_lost_in_empty_space(name):
    window, probe, shots = a_batch(name)
    empty = torch.ones_like(window)
    seen = optics(name).predict(empty, probe, shots).square().sum((1, 2))
    torch.testing.assert_close(seen, probe.abs().square().sum().expand(BATCH))


@pytest.mark.parametrize("name", NAMES)
def test_a_pure_phase_object_loses_no_photon_either(name):
    """Unitarity: whatever the slices, motion and detector."""
    window, probe, shots = a_batch(name)
    phase = torch.polar(torch.ones_like(window.real), window.real)
    seen = optics(name).predict(phase, probe, shots).square().sum((1, 2))
    torch.testing.assert_close(seen, probe.abs().square().sum().expand(BATCH))


@pytest.mark.parametrize("name", NAMES)
def test_single_precision_agrees_with_double(name):
    """The fast way is of single precision; its double is the general one."""
    coarse = optics(name).predict(*a_batch(name))
    wide = optics("far" if name == "fast" else name, DOUBLE)
    fine = wide.predict(*a_batch(name, DOUBLE))
    assert coarse.dtype == torch.float32
    torch.testing.assert_close(coarse.double(), fine, rtol=0, atol=2e-5)


@pytest.mark.parametrize(
    ("name", "loss"),
    [("fast", "smooth_l1"), *product(NAMES[1:], ["smooth_l1", "l1", "l2", "poisson"])],
)
def test_gradients_agree_with_finite_differences(name, loss):
    """Along random directions, of what is said to be differentiated."""
    kind = SINGLE if name == "fast" else DOUBLE
    experiment = optics(name, kind, loss)
    window, probe, shots = a_batch(name, kind)
    got = experiment.gradients(window, probe, shots, probe_too=True)
    scale = float(got.scale) * SIZE**2
    truth = optics("far", DOUBLE, loss) if name == "fast" else experiment
    *wide, fine = a_batch(name, DOUBLE)

    def total(window: torch.Tensor, probe: torch.Tensor) -> float:
        each = truth.gradients(window, probe, fine, probe_too=False).loss
        return scale * float(each.sum())

    g = torch.Generator().manual_seed(1)
    for which, by in enumerate((got.by_window, got.by_probe)):
        step = 1e-6 * torch.randn(wide[which].shape, generator=g, dtype=DOUBLE)
        ends = [list(wide), list(wide)]
        ends[0][which], ends[1][which] = wide[which] + step, wide[which] - step
        found = total(*ends[0]) - total(*ends[1])
        predicted = 2 * float((by.to(DOUBLE).conj() * step).real.sum())
        assert predicted == pytest.approx(found, rel=2e-3)


@pytest.mark.parametrize("name", NAMES)
def test_the_gradient_is_the_adjoint_of_the_change(name):
    """<g, O> by the gradient equals the change along O: Euler, for a scaled object."""
    kind = SINGLE if name == "fast" else DOUBLE
    window, probe, shots = a_batch(name, kind)
    experiment = optics(name, kind)
    got = experiment.gradients(window, probe, shots, probe_too=True)
    if len(window) == 1:  # P·O is one product: both see the same exit waves
        by_object = (got.by_window.conj() * window).sum().real
        by_probe = (got.by_probe.conj() * probe).sum().real
        torch.testing.assert_close(by_object, by_probe, rtol=1e-4, atol=1e-2)
    else:
        each = (got.by_window.conj() * window).sum((1, 2)).real
        torch.testing.assert_close(each, each[:1].expand(len(each)))


def test_empty_slices_are_free_space_before_the_detector():
    _, probe, shots = a_batch("slices", DOUBLE)
    experiment, free = optics("slices", DOUBLE), kernel(DOUBLE)
    seen = experiment.predict(torch.ones(3, SIDE, SIDE, dtype=DOUBLE), probe, shots)
    further = convolve(convolve(probe, free), free)
    one = torch.ones(1, SIDE, SIDE, dtype=DOUBLE)
    expected = optics("far", DOUBLE).predict(one, further, shots)
    torch.testing.assert_close(seen, expected)
    detector = near(DOUBLE)
    seen = GeneralOptics(
        Way(kernel(DOUBLE), detector.detector), loss="l2", beta=1
    ).predict(torch.ones(3, SIDE, SIDE, dtype=DOUBLE), probe, shots)
    expected = optics("near", DOUBLE).predict(one, further, shots)
    torch.testing.assert_close(seen, expected)


@pytest.mark.parametrize("rule", ["gauss", "midpoint"])
def test_a_fly_scan_that_hardly_moves_is_the_step_scan(rule):
    window, probe, shots = a_batch("far", DOUBLE)
    step = optics("far", DOUBLE).predict(window, probe, shots)
    fly = GeneralOptics(Way(points=4, rule=rule), loss="l2", beta=1)
    beside = shots.patterns.shift_px
    lost = []
    for travel in (1e-1, 1e-2, 0.0):
        ends = torch.stack([beside - travel / 2, beside + travel / 2], 1)
        seen = fly.predict(window, probe, Shots(shots.patterns, ends))
        lost.append(float((seen - step).abs().max()))
    assert lost[2] < 1e-12
    assert lost[1] < 0.02 * lost[0]  # of second order: the path's middle stays


def test_the_fast_way_and_the_general_one_agree_in_double_precision():
    window, probe, shots = a_batch("fast")
    fast = optics("fast").gradients(window, probe, shots, probe_too=True)
    wide = optics("far", DOUBLE).gradients(*a_batch("far", DOUBLE), probe_too=True)
    for name in ("loss", "by_window", "by_probe", "illumination", "transmission"):
        one, two = getattr(fast, name), getattr(wide, name)
        torch.testing.assert_close(one.to(two.dtype), two, rtol=1e-4, atol=1e-4)
