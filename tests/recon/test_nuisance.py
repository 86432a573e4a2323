"""Positions and brightness are found again; without being asked, nothing moves."""

import numpy as np
import pytest
import torch

from ptystream.recon.nuisance import Nuisance
from ptystream.recon.options import NuisanceOptions, PhysicsOptions, ProbeOptions
from tests.recon.general_scan import PIXEL_M, GeneralScan, run

KNOWN = ProbeOptions(known=True)
SCAN = GeneralScan(lines=8)
LEVER = SCAN.corners - SCAN.corners.mean(0)


def found(recon) -> tuple[np.ndarray, np.ndarray]:
    """Return how far each exposure was moved, and which of them were trained on."""
    given = np.array(recon.store.position_px[: recon.store.frames])
    refined = recon.snapshot().positions_m / PIXEL_M
    return refined - given, ~recon.store.held_out[: recon.store.frames]


def rms(offsets: np.ndarray) -> float:
    """Return the spread of offsets, less what moves them all."""
    return float(np.sqrt(np.square(offsets - offsets.mean(0)).sum(1).mean()))


def test_positions_of_frames_are_found():
    off = 0.7 * np.random.default_rng(0).normal(size=(64, 2))
    scan = GeneralScan(lines=8, off_px=off)
    options = NuisanceOptions(positions="frames", after_steps=30)
    plain = run(scan.reconstruction(probe=KNOWN), 150).measure().held_out_nll
    recon = run(scan.reconstruction(probe=KNOWN, nuisance=options), 400)
    moved, trained = found(recon)
    assert rms((moved - off)[~trained]) < 0.6 * rms(off[~trained])
    assert recon.measure().held_out_nll < 0.4 * plain
    assert rms((moved - off)[trained]) < 0.4 * rms(off[trained])
    assert np.abs(moved[trained].mean(0)).max() < 0.1  # the gauge: no common move


def test_an_affine_of_the_whole_scan_is_found_and_moves_held_out_frames_too():
    wrong = np.array([[1.08, 0.03], [-0.03, 0.93]]) - np.eye(2)
    off = LEVER @ wrong.T
    scan = GeneralScan(lines=8, off_px=off)
    before = run(scan.reconstruction(probe=KNOWN), 150).measure().held_out_nll
    options = NuisanceOptions(positions="affine", after_steps=30)
    recon = run(scan.reconstruction(probe=KNOWN, nuisance=options), 300)
    moved, trained = found(recon)
    assert rms((moved - off)[~trained]) < 0.4 * rms(off[~trained])
    assert recon.measure().held_out_nll < 0.5 * before
    assert not recon.nuisance.positions.offset_px.any()


def test_held_out_frames_teach_the_affine_and_the_background_nothing():
    options = NuisanceOptions(positions="both", intensity=True, after_steps=0)
    physics = PhysicsOptions(background=True)
    recon = SCAN.reconstruction(nuisance=options, physics=physics)
    for _ in range(3):
        recon.step()
    learned = recon.nuisance.positions.affine, recon.engine.optics.background.root
    before = [x.detach().clone() for x in learned]
    window = recon.object.canvas.values.clone()
    held = torch.from_numpy(recon.store.held_out[:64].nonzero()[0])
    places = recon.nuisance.moves(held).detach()
    for _ in range(3):
        recon._fit_held_out(1.0)
    assert (recon.nuisance.moves(held).detach() != places).any()
    for now, then in zip(learned, before, strict=True):
        torch.testing.assert_close(now.detach(), then, rtol=0, atol=0)
        assert now.grad is None
    torch.testing.assert_close(recon.object.canvas.values, window, rtol=0, atol=0)


def test_brightness_is_found_and_its_mean_stays():
    light = np.exp(0.2 * np.random.default_rng(1).normal(size=64))
    scan = GeneralScan(lines=8, brightness=light)
    plain = run(scan.reconstruction(probe=KNOWN), 200).measure().loss
    options = NuisanceOptions(intensity=True, after_steps=30)
    recon = run(scan.reconstruction(probe=KNOWN, nuisance=options), 200)
    assert recon.measure().loss < 0.2 * plain
    made = recon.nuisance.log_brightness.detach().numpy()[:64]
    trained = ~recon.store.held_out[:64]
    assert np.corrcoef(made[trained], np.log(light)[trained])[0, 1] > 0.8
    assert abs(made[trained].mean()) < 2e-3
    assert np.corrcoef(made[~trained], np.log(light)[~trained])[0, 1] > 0.5


@pytest.mark.parametrize("wait", [0, 20])
def test_nothing_moves_before_its_time(wait):
    options = NuisanceOptions(positions="both", intensity=True, after_steps=wait)
    recon = SCAN.reconstruction(nuisance=options)
    for _ in range(20):
        recon.step()
    moved, _ = found(recon)
    assert bool(moved.any()) == (wait == 0)
    assert bool(recon.nuisance.log_brightness.any()) == (wait == 0)


def test_no_frame_moves_further_than_its_bound():
    options = NuisanceOptions(
        positions="frames", after_steps=0, position_rate_px=0.5, position_bound_px=0.3
    )
    recon = run(SCAN.reconstruction(nuisance=options), 30)
    moved, _ = found(recon)
    assert np.abs(moved).max() == pytest.approx(0.3, abs=1e-6)


def test_a_slot_that_is_used_again_begins_anew():
    nuisance = Nuisance(
        NuisanceOptions(positions="frames", intensity=True, after_steps=0),
        4,
        torch.device("cpu"),
    )
    for slot, place in enumerate([(0, 0), (0, 9), (9, 0), (9, 9)]):
        nuisance.place(slot, np.array(place, float), trained=True)
    rows = torch.arange(2)
    nuisance.learn(rows, 1.0, torch.tensor(True))  # the first fixes the gauge
    for _ in range(3):
        (nuisance.moves(rows).sum() + nuisance.brightness(rows).sum()).backward()
        nuisance.learn(rows, 1.0, torch.tensor(True))
    assert nuisance.moves(rows).detach().all()
    assert not nuisance.moves(torch.tensor([2, 3])).detach().any()
    nuisance.place(1, np.array([5.0, 5.0]), trained=True)
    assert not nuisance.moves(torch.tensor([1])).detach().any()
    assert float(nuisance.brightness(torch.tensor([1])).detach()) == 1
    assert float(nuisance.brightness(torch.tensor([0])).detach()) < 1


def test_a_step_that_is_not_finite_moves_nothing():
    options = NuisanceOptions(positions="both", intensity=True, after_steps=0)
    nuisance = Nuisance(options, 2, torch.device("cpu"))
    for slot in range(2):
        nuisance.place(slot, np.array([0.0, 9.0 * slot]), trained=True)
    rows = torch.arange(2)
    (nuisance.moves(rows) * float("nan")).sum().backward()
    nuisance.learn(rows, 1.0, torch.tensor(False))
    assert not nuisance.moves(rows).detach().any()
