"""A background is found within a few steps, since it begins as the patterns say."""

import pytest
import torch

from ptystream.physics.forward import Background
from ptystream.recon.options import PhysicsOptions, ProbeOptions
from tests.recon.general_scan import GeneralScan

KNOWN = ProbeOptions(known=True)


@pytest.mark.parametrize("light", [0.005, 0.05, 0.5])
def test_twenty_steps_find_it(light):
    scan = GeneralScan(background=light)
    learned = PhysicsOptions(background=True)
    recon = scan.reconstruction(probe=KNOWN, physics=learned)
    for _ in range(20):
        recon.step(live=False)
    found = float(recon.engine.optics.background().detach().mean())
    assert found == pytest.approx(light / (1 + light), rel=0.1)


def test_from_nothing_it_is_far_off():
    """So that the test above can fail: this was the start before."""
    scan = GeneralScan(background=0.05)
    recon = scan.reconstruction(probe=KNOWN, physics=PhysicsOptions(background=True))
    recon.engine.optics._begun = True
    for _ in range(20):
        recon.step(live=False)
    assert float(recon.engine.optics.background().detach().mean()) < 0.02


def test_it_starts_at_the_quantile_of_what_is_believed():
    counts = torch.arange(16.0).reshape(1, 4, 4).expand(3, 4, 4).clone()
    mask = torch.ones(4, 4, dtype=torch.bool)
    mask[0] = False  # the darkest row is dead
    counts[:, 0] = torch.nan
    background = Background((4, 4), start_counts=1e-4)
    background.begin(counts, quantile=0.5, mask=mask)
    torch.testing.assert_close(background(), torch.full((4, 4), 9.5))
    each = torch.ones(3, 4, 4, dtype=torch.bool)
    each[1:, 3] = False  # believed once
    counts = torch.ones(3, 4, 4)
    counts[1:, 3] = 1e9
    background.begin(counts, quantile=1.0, mask=each)
    torch.testing.assert_close(background(), torch.ones(4, 4))


def test_dark_or_masked_patterns_leave_the_least():
    background = Background((4, 4), start_counts=0.25)
    background.begin(torch.zeros(2, 4, 4), quantile=0.1)
    torch.testing.assert_close(background(), torch.full((4, 4), 0.25))
    nothing = torch.zeros(4, 4, dtype=torch.bool)
    background.begin(torch.ones(2, 4, 4), quantile=0.1, mask=nothing)
    torch.testing.assert_close(background(), torch.full((4, 4), 0.25))


@pytest.mark.parametrize(("quantile", "more"), [(0.0, False), (1.0, True)])
def test_the_quantile_is_a_setting(quantile, more):
    physics = PhysicsOptions(
        background=True, background_start=quantile, background_rate=1e-9
    )
    recon = GeneralScan(background=0.05).reconstruction(probe=KNOWN, physics=physics)
    recon.step()
    assert (float(recon.engine.optics.background().detach().mean()) > 1) is more
