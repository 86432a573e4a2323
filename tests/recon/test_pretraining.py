"""Any field starts from any estimate: to the stated error in the stated steps."""

import numpy as np
import pytest
import torch

from ptystream.models.field import Box
from ptystream.models.pixels import Pixels
from ptystream.physics.constraints import recentre
from ptystream.recon.build import as_pupil, probe_field
from ptystream.recon.hold import still
from ptystream.recon.learners import at_unit_light
from ptystream.recon.options import (
    EngineOptions,
    HashGridOptions,
    ObjectOptions,
    ProbeOptions,
    ReconOptions,
)
from ptystream.recon.stages import Stages
from tests.recon.general_scan import GeneralScan

CPU = torch.device("cpu")
SCAN = GeneralScan()
ESTIMATE = torch.from_numpy(SCAN.objects.astype(np.complex64))
BOX = Box(-7, 11, *ESTIMATE.shape[1:])
SMALL_HASH = HashGridOptions(levels=8, table=2**11)
FRAME = Box(0, 0, 24, 24)


def a_probe(kind: str) -> torch.Tensor:
    """Return a modelled probe, or the paper's uniform random one."""
    if kind == "model":
        return torch.from_numpy(SCAN.probes).to(torch.complex64)
    made = torch.Generator().manual_seed(4)
    return torch.polar(*torch.rand(2, 1, 24, 24, generator=made))


def started(field: str, steps: int, **more) -> float:
    """Return the mean squared error over the estimate's variance."""
    torch.manual_seed(0)
    o = ObjectOptions(
        field=field,
        pretrain_steps=steps,
        warmup_steps=0,
        width=64,
        hidden=2,
        scale_px=40.0,
        depth=1,
        filters=8,
    )
    options = ReconOptions(object=o, hashgrid=SMALL_HASH, **more)
    stages = Stages(options, a_probe("model"), CPU)
    stages.object.cover(BOX)
    stages.begin(BOX, ESTIMATE)
    with torch.no_grad(), still(stages.object):
        made = stages.object.window(BOX)
    spread = (ESTIMATE - ESTIMATE.mean()).abs().square().mean()
    return float((made - ESTIMATE).abs().square().mean() / spread)


@pytest.mark.parametrize(
    ("field", "steps", "error"),
    [
        ("pixels", 0, 1e-12),
        ("siren", 100, 2e-2),
        ("multires", 100, 2e-3),
        ("hashgrid", 60, 2e-2),
        ("unet", 100, 0.2),
    ],
)
def test_an_object_starts_from_an_estimate(field, steps, error):
    assert started(field, steps) < error
    if field != "pixels":
        assert started(field, 0) > 10 * error


@pytest.mark.parametrize("kind", ["model", "random"])
@pytest.mark.parametrize(
    ("field", "steps", "error"),
    [("pixels", 0, 1e-9), ("hashgrid", 100, 3e-3), ("unet", 100, 5e-3)],
)
def test_a_probe_starts_from_a_model_or_at_random(field, steps, error, kind):
    torch.manual_seed(0)
    p = ProbeOptions(field=field, pretrain_steps=steps, depth=1, filters=8)
    options = ReconOptions(probe=p, hashgrid=SMALL_HASH)
    made = probe_field(a_probe(kind), options, CPU)
    wanted = at_unit_light(a_probe(kind))
    with torch.no_grad(), still(made):
        off = made.window(FRAME) - wanted
    assert float(off.abs().square().sum() / wanted.abs().square().sum()) < error


def test_the_rate_of_the_lessons_is_a_setting():
    slow = started("siren", 10, engine=EngineOptions(pretrain_rate=1e-6))
    assert started("siren", 10) < 0.5 * slow
    torch_s = EngineOptions(pretrain_rate=5e-4, adam="published")
    assert started("siren", 10, engine=torch_s) < 0.5 * slow


def test_a_recentred_probe_is_taught_the_estimate_in_the_centre():
    first = a_probe("model").roll((5, -4), (1, 2))
    p = ProbeOptions(field="hashgrid", recentre=True)
    made = probe_field(first, ReconOptions(probe=p, hashgrid=SMALL_HASH), CPU)
    with torch.no_grad():
        off = made.window(FRAME) - recentre(at_unit_light(first))
    assert float(off.abs().square().mean()) < 3e-3


@pytest.mark.parametrize("field", ["hashgrid", "unet"])
def test_untaught_a_probe_keeps_its_own_random_start_and_still_learns(field):
    p = ProbeOptions(field=field, pretrain_steps=0, depth=1, filters=2)
    recon = SCAN.reconstruction(probe=p, hashgrid=SMALL_HASH)
    with torch.no_grad():
        before = recon.probe.window(recon._frame)
    assert float((before - at_unit_light(a_probe("model"))).abs().max()) > 0.1
    for _ in range(3):
        assert torch.isfinite(recon.step().loss)


def test_a_u_net_that_is_not_taught_still_gets_the_pixels_as_its_input():
    o = ObjectOptions(
        field="unet", depth=1, filters=2, warmup_steps=5, pretrain_steps=0
    )
    p = ProbeOptions(field="unet", depth=1, filters=2, pretrain_steps=0)
    recon = SCAN.reconstruction(object=o, probe=p)
    for _ in range(4):
        recon.step()
    assert isinstance(recon.object, Pixels)
    for _ in range(2):
        recon.step()
    assert float(recon.object.inner.estimate.std()) > 1e-3
    assert float(recon.probe.inner.estimate.abs().max()) > 0.1


def test_pixels_take_no_lessons():
    with pytest.raises(ValueError, match="write"):
        as_pupil(Pixels(), ReconOptions())
