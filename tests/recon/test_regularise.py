"""Soft constraints pull the way they should, and by what the paper's formula says."""

import numpy as np
import pytest
import torch

from ptystream.physics.losses import total_variation
from ptystream.recon.optics import Gradients
from ptystream.recon.options import ObjectOptions, PhysicsOptions, ProbeOptions
from ptystream.recon.regularise import Prior
from tests.recon.general_scan import GeneralScan, run

KNOWN = ProbeOptions(known=True)
TWO = ObjectOptions(field="pixels", slices=2)


def made(scan: GeneralScan, steps: int = 120, **sections) -> np.ndarray:
    """Return the object, less the frame of it that is hardly lit."""
    sections.setdefault("probe", KNOWN)
    recon = run(scan.reconstruction(photons=3e3, **sections), steps)
    return recon.snapshot().object[:, 8:-8, 8:-8]


def variation(volume: np.ndarray, axis: int) -> float:
    """Return the mean difference of neighbours, by a formula of its own."""
    there = np.moveaxis(volume, axis, 0)
    turn = np.abs(np.angle(there[1:] / there[:-1]))
    return float((np.abs(np.diff(np.abs(there), axis=0)) + turn).mean())


@pytest.mark.parametrize("field", ["pixels", "multires"])
def test_variation_across_the_beam_shrinks_with_its_weight(field):
    scan, o = GeneralScan(), ObjectOptions(field=field, width=32)
    rough, smooth = (
        made(scan, object=o, physics=PhysicsOptions(tv_xy=w)) for w in (0.0, 0.05)
    )
    assert variation(smooth, 1) < 0.8 * variation(rough, 1)


def test_variation_along_the_beam_shrinks_with_its_own_weight():
    scan = GeneralScan(slices=2, slice_m=4e-4)
    plain, tied = (
        made(scan, object=TWO, physics=PhysicsOptions(slice_m=4e-4, tv_z=w))
        for w in (0.0, 0.05)
    )
    assert variation(tied, 0) < 0.7 * variation(plain, 0)


def test_the_outer_slices_are_emptied():
    scan = GeneralScan(slices=1)
    three = ObjectOptions(field="pixels", slices=3)

    def content(weight: float) -> list[float]:
        physics = PhysicsOptions(slice_m=1e-5, surface_zero=weight)
        volume = made(scan, object=three, physics=physics)
        return [float(np.std(x)) for x in volume]

    plain, cleared = content(0.0), content(0.03)
    assert max(cleared[0], cleared[2]) < 0.5 * max(plain[0], plain[2])
    assert cleared[1] > plain[1]


def test_the_probe_s_mean_amplitude_shrinks_for_its_steps_only():
    scan = GeneralScan()
    start = scan.probes + 0.05  # light where there is none

    def probe(weight: float, k: int) -> np.ndarray:
        physics = PhysicsOptions(probe_penalty=weight, probe_penalty_steps=k)
        recon = scan.reconstruction(first=start, physics=physics)
        return run(recon, 20).snapshot().probe

    plain, never, short = probe(0.0, 20), probe(0.3, 0), probe(0.3, 20)
    np.testing.assert_array_equal(plain, never)
    assert np.abs(short).mean() < 0.97 * np.abs(plain).mean()


def test_the_gradient_is_that_of_loss_plus_weight_times_variation():
    """Whatever the batch: the patterns' is scale · pixels · patterns · mean loss."""
    g = torch.Generator().manual_seed(0)
    window = torch.randn(2, 6, 5, generator=g, dtype=torch.complex64)
    probe = torch.ones(1, 4, 4, dtype=torch.complex64)
    zero = torch.zeros_like(window)
    got = Gradients(
        torch.zeros(7), 0.5, zero, torch.ones(6, 5), probe, torch.tensor(1.0)
    )
    added = Prior(tv_xy=0.3, tv_z=0.2).add(got, window, probe, 0).by_window
    step = 1e-3 * torch.randn(2, 6, 5, generator=g, dtype=torch.complex64)

    def total(w: torch.Tensor) -> float:
        return float(
            total_variation(w.to(torch.complex128), weight_xy=0.3, weight_z=0.2)
        )

    change = total(window + step) - total(window - step)
    predicted = 2 * float((added.conj() * step).real.sum()) / (0.5 * 7 * 16)
    assert predicted == pytest.approx(change, rel=0.02)
