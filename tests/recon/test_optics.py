"""Experiments beyond the common one: each is recovered, and only by its own model."""

import numpy as np
import pytest
import torch

from ptystream.errors import ConfigError
from ptystream.physics.fused import Patterns
from ptystream.recon.optics import FusedOptics, GeneralOptics, Shots, Way
from ptystream.recon.options import ObjectOptions, PhysicsOptions, ProbeOptions
from tests.recon.general_scan import GeneralScan, run

KNOWN = ProbeOptions(known=True)


def a_batch(mask: str = "none") -> tuple[torch.Tensor, torch.Tensor, Shots]:
    g = torch.Generator().manual_seed(0)
    window = 1 + 0.3 * torch.randn(1, 28, 30, generator=g, dtype=torch.complex64)
    probe = torch.randn(2, 16, 16, generator=g, dtype=torch.complex64)
    masks = {
        "none": None,
        "detector": torch.rand(16, 16, generator=g) > 0.2,
        "frames": torch.rand(5, 16, 16, generator=g) > 0.2,
    }
    patterns = Patterns(
        torch.randint(0, 12, (5, 2), generator=g),
        torch.rand(5, 2, generator=g) - 0.5,
        torch.rand(5, 16, 16, generator=g) * 2,
        masks[mask],
    )
    return window, probe, Shots(patterns)


@pytest.mark.parametrize("mask", ["none", "detector", "frames"])
def test_the_general_way_says_what_the_fast_one_does(mask):
    window, probe, shots = a_batch(mask)
    general = GeneralOptics(Way(), loss="smooth_l1", beta=0.5)
    fast = FusedOptics(beta=0.5)
    one = general.gradients(window, probe, shots, probe_too=True)
    two = fast.gradients(window, probe, shots, probe_too=True)
    for name in ("by_window", "by_probe", "transmission", "illumination"):
        torch.testing.assert_close(
            getattr(one, name), getattr(two, name), rtol=1e-4, atol=1e-4
        )
    if mask == "none":  # the fast way's mean counts masked pixels as 0
        torch.testing.assert_close(one.loss, two.loss)
    torch.testing.assert_close(
        general.predict(window, probe, shots), fast.predict(window, probe, shots)
    )


@pytest.mark.parametrize("loss", ["smooth_l1", "l2", "poisson"])
def test_small_errors_weigh_the_same_in_every_loss(loss):
    """What a learner is told must not depend on how the misfit is measured."""
    window, probe, shots = a_batch()
    seen = GeneralOptics(Way(), loss="l2", beta=1).predict(window, probe, shots)
    shots = Shots(shots.patterns._replace(amplitude=seen * 1.001))
    wanted = GeneralOptics(Way(), loss="l2", beta=1)
    asked = GeneralOptics(Way(), loss=loss, beta=0.5)
    one = wanted.gradients(window, probe, shots, probe_too=True).by_probe
    two = asked.gradients(window, probe, shots, probe_too=True).by_probe
    assert float((one - two).norm() / one.norm()) < 0.2


def deviance(scan: GeneralScan, steps: int = 100, **sections) -> float:
    """Return that of the held-out photons: about 1 a pixel where all is right."""
    sections.setdefault("probe", KNOWN)
    return run(scan.reconstruction(**sections), steps).measure().held_out_nll


def test_two_slices_need_two_slices():
    scan = GeneralScan(slices=2, slice_m=4e-4)
    two = ObjectOptions(field="pixels", slices=2)
    right = deviance(scan, object=two, physics=PhysicsOptions(slice_m=4e-4))
    assert right < 8
    assert deviance(scan, object=two, physics=PhysicsOptions(slice_m=1e-5)) > 5 * right
    assert deviance(scan) > 5 * right


def test_each_slice_comes_out_as_itself():
    scan = GeneralScan(slices=2, slice_m=4e-4)
    recon = run(
        scan.reconstruction(
            object=ObjectOptions(field="pixels", slices=2),
            probe=KNOWN,
            physics=PhysicsOptions(slice_m=4e-4),
        ),
        150,
    )
    made = recon.snapshot().object
    inside = (slice(20, -20),) * 2
    for own, other in ((0, 1), (1, 0)):
        whole = scan.objects[:, 8:-8, 8:-8]
        like = [correlation(made[own][inside], whole[n][inside]) for n in (own, other)]
        assert like[0] > 0.9
        assert like[0] > like[1] + 0.2


def correlation(one: np.ndarray, two: np.ndarray) -> float:
    """Return how alike two pictures' phases are, less their ramps."""
    y, x = np.mgrid[: one.shape[0], : one.shape[1]]
    plane = np.stack([np.ones(one.size), y.ravel(), x.ravel()], 1)

    def rest(image: np.ndarray) -> np.ndarray:
        phase = np.angle(image).ravel()
        return phase - plane @ np.linalg.lstsq(plane, phase, rcond=None)[0]

    return float(np.corrcoef(rest(one), rest(two))[0, 1])


def test_slices_without_a_distance_are_refused_by_name():
    with pytest.raises(ConfigError, match="slice_m"):
        GeneralScan().reconstruction(object=ObjectOptions(field="pixels", slices=2))


def test_a_fly_scan_needs_its_motion():
    scan = GeneralScan(travel_px=(0.0, 8.0))
    fly = deviance(scan, physics=PhysicsOptions(fly_points=4))
    assert fly < 3
    assert deviance(scan) > 5 * fly


def test_the_rule_says_where_the_points_lie():
    """A detector that blinks twice in each exposure is what ``midpoint`` describes."""
    scan = GeneralScan(travel_px=(0.0, 8.0))
    light = scan.intensities(points=2)
    counts = (1e6 * light / light.sum((1, 2)).mean()).astype(np.uint32)
    gauss, midpoint = (
        deviance(
            scan, counts=counts, physics=PhysicsOptions(fly_points=2, fly_rule=rule)
        )
        for rule in ("gauss", "midpoint")
    )
    assert midpoint < 0.5 * gauss


def test_a_fly_scan_of_two_slices_needs_both():
    scan = GeneralScan(travel_px=(4.0, 0.0), slices=2, slice_m=4e-4)
    two = ObjectOptions(field="pixels", slices=2)
    both = PhysicsOptions(fly_points=3, slice_m=4e-4)
    still = PhysicsOptions(slice_m=4e-4)
    right = deviance(scan, object=two, physics=both)
    assert right < 8
    assert deviance(scan, object=two, physics=still) > 3 * right


def test_the_near_field_needs_its_distance():
    scan = GeneralScan(near_m=2e-4)
    near = PhysicsOptions(model="near")
    right = deviance(scan, physics=near)
    number = (2e-8) ** 2 / (1e-10 * 2e-4)
    told = PhysicsOptions(model="near", fresnel_number=number)
    assert right < 8
    assert deviance(scan, physics=told) == pytest.approx(right, rel=1e-2)
    wrong = PhysicsOptions(model="near", fresnel_number=3 * number)
    assert deviance(scan, physics=wrong) > 5 * right
    cone = PhysicsOptions(model="near", magnification=3.0)
    assert deviance(scan, physics=cone) > 5 * right


def test_a_near_field_without_distance_is_refused_by_name():
    with pytest.raises(ConfigError, match="fresnel_number"):
        GeneralScan().reconstruction(physics=PhysicsOptions(model="near"))


def test_a_background_is_learned():
    scan = GeneralScan(background=0.05)
    learned = PhysicsOptions(background=True)
    recon = run(scan.reconstruction(probe=KNOWN, physics=learned), 350)
    assert recon.measure().held_out_nll < 0.2 * deviance(scan)
    light = float(recon.engine.optics.background().detach().mean())
    assert light == pytest.approx(0.05 / 1.05, rel=0.25)


@pytest.mark.parametrize("loss", ["l1", "l2", "poisson"])
def test_every_loss_recovers_the_scan(loss):
    assert deviance(GeneralScan(), physics=PhysicsOptions(loss=loss)) < 8


def test_saturated_pixels_are_left_out():
    scan = GeneralScan()
    counts = scan.counts(1e6)
    most = int(np.quantile(counts, 0.99))
    clipped = np.minimum(counts, most)
    believed = deviance(scan, counts=clipped)
    left_out = deviance(scan, counts=clipped, physics=PhysicsOptions(saturated=most))
    assert left_out < 0.3 * believed


@pytest.mark.parametrize(
    ("field", "share"),
    [("smooth", 0.8), ("pixels", 0.3), ("multires", 0.5), ("siren", 0.5), ("unet", 9)],
)
@pytest.mark.parametrize("kind", ["phase", "potential"])
def test_objects_are_of_their_kind(field, share, kind):
    scan = GeneralScan(phase_only=True)
    recon = scan.reconstruction(
        probe=KNOWN,
        object=ObjectOptions(field=field, width=32, depth=1, filters=4, warmup_steps=0),
        physics=PhysicsOptions(kind=kind),
    )
    recon.step()
    first = recon.measure().held_out_error
    made = run(recon, 40 if share < 1 else 5).snapshot()
    np.testing.assert_allclose(np.abs(made.object), 1, atol=1e-5)
    if kind == "potential":
        assert np.angle(made.object).min() > -1e-6
    assert made.quality.held_out_error < share * first


def test_a_complex_object_is_not_held_to_a_phase():
    """So that the test above can fail."""
    made = run(GeneralScan(phase_only=True).reconstruction(probe=KNOWN), 5).snapshot()
    assert np.abs(np.abs(made.object) - 1).max() > 1e-2
    assert np.angle(made.object).min() < -1e-2
