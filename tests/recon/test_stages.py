"""Constraints hold while they should; networks take over from pixels without a jolt."""

import numpy as np
import pytest
import torch

from ptystream.models.pixels import Pixels
from ptystream.recon.hold import Held
from ptystream.recon.options import (
    EngineOptions,
    ObjectOptions,
    PhysicsOptions,
    ProbeOptions,
)
from tests.recon.general_scan import GeneralScan

KNOWN = ProbeOptions(known=True)
SCAN = GeneralScan()


def overlap(probe: np.ndarray) -> float:
    """Return how far from orthogonal two modes are, 0 to 1."""
    one, two = probe
    return abs(np.vdot(one, two)) / np.linalg.norm(one) / np.linalg.norm(two)


@pytest.mark.parametrize(
    ("field", "jolt", "share"),
    [("multires", 10, 0.8), ("siren", 60, 0.9), ("unet", 300, 0.7)],
)
def test_a_network_takes_over_what_pixels_found(field, jolt, share):
    o = ObjectOptions(
        field=field,
        width=32,
        hidden=2,
        depth=2,
        filters=8,
        warmup_steps=60,
        pretrain_steps=55,
    )
    recon = SCAN.reconstruction(probe=KNOWN, object=o)
    before = run_to(recon, 59)
    assert isinstance(recon.object, Pixels)
    after = run_to(recon, 1)
    assert isinstance(recon.object, Held)
    assert after < before + jolt
    assert run_to(recon, 50) < share * after


def test_without_lessons_a_network_begins_with_nothing():
    """So that the test above can fail."""
    o = ObjectOptions(field="siren", width=32, warmup_steps=60, pretrain_steps=0)
    taught = ObjectOptions(field="siren", width=32, warmup_steps=60, pretrain_steps=55)
    nll = [run_to(SCAN.reconstruction(probe=KNOWN, object=x), 60) for x in (o, taught)]
    assert nll[0] > 2 * nll[1]


def run_to(recon, steps: int) -> float:
    """Take steps at full rate; return the deviance."""
    for _ in range(steps):
        recon.step(live=False)
    return recon.measure().held_out_nll


@pytest.mark.parametrize("field", ["hashgrid", "unet"])
@pytest.mark.parametrize("warmup", [0, 60])
def test_the_probe_s_network_begins_as_the_first_probe_or_the_pixels(field, warmup):
    lessons = 50 if field == "hashgrid" else 120
    probe = ProbeOptions(field=field, depth=2, filters=8, pretrain_steps=lessons)
    o = ObjectOptions(field="pixels", warmup_steps=warmup)
    recon = SCAN.reconstruction(probe=probe, object=o)
    assert isinstance(recon.probe, Pixels if warmup else Held)
    run_to(recon, warmup or 1)
    assert isinstance(recon.probe, Held)
    made, truth = recon.snapshot().probe[0], SCAN.probes[0]
    like = abs(np.vdot(made, truth)) / np.linalg.norm(made) / np.linalg.norm(truth)
    assert like > 0.97
    before = recon.measure().held_out_nll
    assert run_to(recon, 30) < before


@pytest.mark.parametrize("field", ["auto", "pixels", "multires", "unet"])
def test_slices_are_the_same_until_they_may_differ(field):
    o = ObjectOptions(
        field=field,
        slices=2,
        identical_steps=10,
        contest_steps=50,
        warmup_steps=0,
        width=16,
        depth=1,
        filters=4,
    )
    recon = GeneralScan(slices=2).reconstruction(
        probe=KNOWN, object=o, physics=PhysicsOptions(slice_m=1e-4)
    )
    run_to(recon, 9)
    made = recon.snapshot().object
    np.testing.assert_allclose(made[0], made[1], atol=1e-6)
    run_to(recon, 10)
    made = recon.snapshot().object
    assert np.abs(made[0] - made[1]).max() > 1e-3


@pytest.mark.parametrize("field", ["smooth", "pixels", "siren"])
def test_the_object_s_amplitude_is_clamped(field):
    bright = GeneralScan()
    bright.objects = bright.objects * 1.4  # more than the probe says there is
    counts = (2e3 * bright.intensities()).astype(np.uint32)
    limits = {}
    for most in (None, 1.0):
        o = ObjectOptions(field=field, width=16, amplitude_max=most)
        recon = bright.reconstruction(probe=KNOWN, object=o, counts=counts)
        run_to(recon, 30)
        limits[most] = np.abs(recon.snapshot().object).max()
    assert limits[1.0] <= 1 + 1e-5 < limits[None]


@pytest.mark.parametrize("field", ["pixels", "hashgrid"])
@pytest.mark.parametrize("normalise", ["light", "maximum"])
def test_the_probe_is_held_by_light_or_by_maximum(field, normalise):
    probe = ProbeOptions(field=field, normalise=normalise, pretrain_steps=50)
    first = SCAN.probes * np.exp(-np.linspace(0, 1, 24))  # wrong, so that it changes
    recon = SCAN.reconstruction(probe=probe, first=first)
    light, peak = measures(first * np.sqrt(576 / np.sum(np.abs(first) ** 2)))
    run_to(recon, 30)
    frame = recon._frame
    with torch.no_grad():
        made = measures(recon.probe.window(frame).numpy())
    held = 0 if normalise == "light" else 1
    assert made[held] == pytest.approx((light, peak)[held], rel=1e-4)
    assert made[1 - held] != pytest.approx((light, peak)[1 - held], rel=1e-3)


def measures(probe: np.ndarray) -> tuple[float, float]:
    """Return the light, and the largest amplitude."""
    return float(np.sum(np.abs(probe) ** 2)), float(np.abs(probe).max())


@pytest.mark.parametrize("field", ["pixels", "hashgrid"])
def test_modes_are_made_orthogonal_every_so_many_steps(field):
    scan = GeneralScan(modes=2)
    first = scan.probes.copy()
    first[1] += 0.5 * first[0]
    seen = {}
    for every in (0, 5):
        probe = ProbeOptions(
            field=field, modes=2, orthogonal_steps=every, pretrain_steps=20
        )
        recon = scan.reconstruction(probe=probe, first=first)
        run_to(recon, 10)
        with torch.no_grad():
            seen[every] = overlap(recon.probe.window(recon._frame).numpy())
        assert overlap(recon.snapshot().probe) < 1e-3
    assert seen[5] < 1e-3 < seen[0]


def test_two_modes_explain_what_one_cannot():
    scan = GeneralScan(modes=2)
    one = scan.reconstruction(first=scan.probes[:1])
    two = scan.reconstruction(probe=ProbeOptions(modes=2))
    assert run_to(two, 100) < 0.5 * run_to(one, 100)


def test_what_is_shown_of_a_u_net_has_no_noise():
    o = ObjectOptions(field="unet", depth=1, filters=4, warmup_steps=0)
    recon = SCAN.reconstruction(probe=KNOWN, object=o)
    run_to(recon, 3)
    one, two = recon.snapshot().object, recon.snapshot().object
    np.testing.assert_array_equal(one, two)
    assert recon.object.training


def test_a_u_net_s_windows_learn_as_the_whole_does():
    for whole in (True, False):
        o = ObjectOptions(
            field="unet",
            depth=1,
            filters=4,
            warmup_steps=30,
            pretrain_steps=30,
            whole=whole,
        )
        recon = SCAN.reconstruction(
            probe=KNOWN, object=o, engine=EngineOptions(batch=16, unet_rate=3e-3)
        )
        before = run_to(recon, 31)
        assert run_to(recon, 40) < 0.8 * before
