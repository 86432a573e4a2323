"""Probes under control: thin bands, wrong starts, one scale."""

import numpy as np
import pytest
import torch

from ptystream.recon.dilation import dilated
from ptystream.recon.options import EngineOptions, ProbeOptions, ReconOptions
from ptystream.recon.reconstruction import Reconstruction, Setting
from ptystream.recon.start import with_as_many_modes
from tests.recon.small_scan import SIZE, SmallScan

TRUE = torch.from_numpy(SmallScan().probe)[None].to(torch.complex64)


def recon_of(first: torch.Tensor, *, modes: int = 1, rows: int = 8) -> Reconstruction:
    """Return a reconstruction of these many lines of a scan, 4 px apart."""
    scan = SmallScan(lines=8)
    options = ReconOptions(
        probe=ProbeOptions(modes=modes), engine=EngineOptions(batch=16, held_out=0.1)
    )
    probe = with_as_many_modes(first, modes)
    recon = Reconstruction(Setting(SIZE, (1.0, 1.0), probe), options)
    counts = scan.counts(2e5)
    for n, (y, x) in enumerate(scan.centres_px[: rows * 8]):
        recon.add(n, counts[n], (float(y), float(x)))
    return recon


def stepped(recon: Reconstruction, steps: int):
    """Return a snapshot after so many steps."""
    while recon.engine.steps < steps:
        recon.step(live=False)
    snapshot = recon.snapshot()
    assert snapshot is not None
    return snapshot


def tallness(probe: np.ndarray) -> float:
    """Return a probe's width along y over that along x: streaks make it large."""
    light = (np.abs(probe) ** 2).sum(0)
    line = np.arange(SIZE) - SIZE / 2
    y, x = light.sum(1), light.sum(0)
    return float(np.sqrt((y @ line**2) / (x @ line**2)))


@pytest.mark.parametrize("modes", [1, 3])
def test_one_line_leaves_the_probe_as_it_was(modes):
    first = with_as_many_modes(TRUE, modes).numpy()
    snapshot = stepped(recon_of(TRUE, modes=modes, rows=1), 150)
    assert np.isfinite(snapshot.object).all()
    assert snapshot.rolled_back == 0
    assert not snapshot.quality.probe_released
    powers = [np.sort((np.abs(p) ** 2).sum((1, 2))) for p in (snapshot.probe, first)]
    assert powers[0] / powers[0].sum() == pytest.approx(powers[1] / powers[1].sum())


@pytest.mark.parametrize("modes", [1, 3])
@pytest.mark.parametrize("size", [1.0, 0.5])
def test_a_band_just_wide_enough_gives_no_streaks(modes, size):
    """Two gaps of 4 px between three lines: a third of a pattern."""
    recon = recon_of(dilated(TRUE, size), modes=modes, rows=3)
    snapshot = stepped(recon, 250)
    assert snapshot.quality.probe_released
    assert np.isfinite(snapshot.object).all()
    assert np.isfinite(snapshot.probe).all()
    assert snapshot.rolled_back == 0
    assert tallness(snapshot.probe) == pytest.approx(1, abs=0.25)
    strongest = snapshot.probe[0]
    overlap = abs(np.vdot(strongest, TRUE[0].numpy())) / np.linalg.norm(strongest)
    assert overlap / TRUE[0].norm().item() > 0.9


def test_a_shifted_probe_costs_nothing():
    """It is an object that lies elsewhere: nothing of either is cut off."""
    right, shifted = recon_of(TRUE), recon_of(TRUE.roll(3, 1))
    told, seen = (stepped(r, 250).quality for r in (right, shifted))
    assert seen.held_out_error < 1.5 * told.held_out_error
    assert seen.held_out_error < 0.1 * seen.flat_error


@pytest.mark.parametrize("light", [1e-3, 1.0, 1e3])
def test_the_scale_is_the_datas_whatever_the_first_probe_s_light(light):
    snapshot = stepped(recon_of(light * dilated(TRUE, 0.7)), 150)
    photons = (np.abs(snapshot.probe) ** 2).sum()
    assert photons == pytest.approx(2e5, rel=0.05)
    inside = np.abs(snapshot.object[0][SIZE // 2 : -SIZE // 2, SIZE // 2 : -SIZE // 2])
    assert np.sqrt((inside**2).mean()) == pytest.approx(1, abs=0.1)
