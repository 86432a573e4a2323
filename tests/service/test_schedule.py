"""The papers' stages, one after the other, and the stop by held-out frames."""

import numpy as np
import pytest
import torch

from ptystream.models.pixels import Pixels
from ptystream.recon.hold import Held
from ptystream.service.offline import Acquired, reconstruct
from ptystream.service.scan import Extras, ScanRun
from tests.recon.small_scan import SmallScan
from tests.service.exposures import PIXEL_M, START, config, exposure

STAGES = (
    "object.field=unet",
    "object.depth=1",
    "object.filters=4",
    "object.slices=2",
    "object.warmup_steps=30",
    "object.pretrain_steps=10",
    "object.identical_steps=45",
    "physics.slice_m=1e-6",
    "probe.field=unet",
    "probe.depth=1",
    "probe.filters=4",
    "probe.pretrain_steps=10",
    "engine.adam=published",
    "engine.by_light=false",
)


def scan(photons: float) -> Acquired:
    small = SmallScan()
    places_m = small.centres_px * PIXEL_M
    taken = [
        exposure(i, counts, (float(y), float(x)))
        for i, (counts, (y, x)) in enumerate(
            zip(small.counts(photons), places_m, strict=True)
        )
    ]
    return Acquired(START, taken, Extras(probe=small.probe[None]))


def test_pixels_then_lessons_then_identical_slices_then_free_ones():
    taken = scan(1e5)
    run = ScanRun(taken.start, config(*STAGES), run="r", extras=taken.extras)
    for one in taken.exposures:
        run.add(one)
    recon = run.recon
    assert recon is not None
    network = [p.detach().clone() for p in taught(recon).parameters()]
    seen = []
    for _ in range(60):
        run.step()
        made = recon.snapshot().object
        seen.append(
            (
                isinstance(recon.object, Pixels) and isinstance(recon.probe, Pixels),
                bool(np.allclose(made[0], made[1], atol=1e-6)),
                not recon.engine.objects.by_light,
            )
        )
        if recon.engine.steps == 19:  # no lesson yet
            assert same(network, taught(recon))
        if recon.engine.steps == 25:
            assert not same(network, taught(recon))
    pixels, identical, plain = zip(*seen, strict=True)
    assert pixels == tuple(n < 30 for n in range(1, 61))
    assert plain == tuple(n >= 30 for n in range(1, 61))
    assert identical == tuple(n < 45 for n in range(1, 61))
    assert isinstance(recon.object, Held)


def taught(recon) -> torch.nn.Module:
    """Return the object's network, which waits for its turn."""
    return vars(recon.stages)["_object_pupil"]._network


def same(before: list[torch.Tensor], network: torch.nn.Module) -> bool:
    pairs = zip(before, network.parameters(), strict=True)
    return all(torch.equal(one, two.detach()) for one, two in pairs)


@pytest.mark.parametrize("watch", ["error", "likelihood"])
def test_a_scan_that_is_overfitted_is_stopped_by_its_held_out_frames(watch):
    """Few photons: the patterns are fitted ever better, held-out ones ever worse."""
    quick = ("refine.patience_s=0.4", f"refine.watch={watch}", "probe.known=true")
    told = config("refine.max_s=40", *quick)
    run, best, end = reconstruct(scan(300), told, run="r")
    assert end.refined == "held-out quality stopped improving"
    assert best is not None
    recon = run.recon
    assert recon is not None
    for _ in range(200):
        recon.step(live=False)
    later = recon.measure()
    assert later.loss < best.quality.loss
    assert judged(later, watch) > judged(best.quality, watch)


def judged(quality, watch: str) -> float:
    return quality.held_out_error if watch == "error" else quality.held_out_nll
