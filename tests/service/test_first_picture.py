"""The picture of exposures that are too few to reconstruct."""

import numpy as np
import pytest

from ptystream.recon.reconstruction import FIRST
from ptystream.service.scan import Extras, ScanRun
from tests.recon.small_scan import SIZE, SmallScan
from tests.service.exposures import PIXEL_M, config, exposures, moved, start

PROBE = Extras(probe=SmallScan().probe[None].astype(np.complex64))


def run_of(*flags: str, extras: Extras = PROBE, **changes: object) -> ScanRun:
    return ScanRun(start(**changes), config(*flags), run="run-1", extras=extras)


@pytest.mark.parametrize("count", [1, FIRST - 1])
def test_the_first_exposures_are_shown_as_what_they_are(count):
    run = run_of()
    assert run.snapshot() is None
    for one in exposures()[:count]:
        run.add(one)
    snapshot = run.snapshot()
    assert run.phase == "waiting"
    assert snapshot is not None
    assert (snapshot.rung, snapshot.step, snapshot.exposures) == ("stxm", 0, count)
    assert snapshot.first_probe == "stream"
    assert snapshot.object.shape[1:] == snapshot.coverage.shape
    assert snapshot.object.dtype == snapshot.probe.dtype == np.complex64
    assert snapshot.object.shape == (
        1,
        SIZE + (count > 6) * 4,
        SIZE + 4 * min(count - 1, 5),
    )
    assert np.isfinite(snapshot.object).all()
    light = (np.abs(snapshot.probe) ** 2).sum()
    assert light == pytest.approx(1e5, rel=0.2)


def test_it_lies_where_the_reconstruction_will():
    early, late = run_of(), run_of()
    for one in exposures()[: FIRST - 1]:
        early.add(one)
    for one in exposures()[:FIRST]:
        late.add(one)
    before, after = early.snapshot(), late.snapshot()
    assert before is not None
    assert after is not None
    assert after.rung == "stxm"  # no step yet
    assert after.origin_m == before.origin_m
    same = before.object.shape[1:]
    assert np.allclose(
        after.coverage[: same[0], : same[1]].max(), before.coverage.max(), rtol=0.3
    )
    assert late.step()
    after = late.snapshot()
    assert after is not None
    assert after.rung == "reconstruction"


def test_an_exposure_far_away_costs_no_memory():
    run = run_of("scan.max_object_mpx=1")
    taken = exposures()[:5]
    for one in [*taken, moved(taken[0], (1e3, 0.0))]:
        run.add(one)
    snapshot = run.snapshot()
    assert snapshot is not None
    assert max(snapshot.object.shape) < 100


def test_dead_pixels_and_saturation_are_left_out():
    mask = np.ones((SIZE, SIZE), bool)
    mask[3, 3] = False
    run = run_of(extras=Extras(probe=PROBE.probe, mask=mask))
    for one in exposures()[:4]:
        one.frame.counts[3, 3] = 60_000
        run.add(one)
    snapshot = run.snapshot()
    assert snapshot is not None
    assert (np.abs(snapshot.probe) ** 2).sum() == pytest.approx(1e5, rel=0.2)


def test_a_probe_that_cannot_be_used_shows_nothing_and_ends_nothing():
    run = run_of("first_probe.source=file")
    run.add(exposures()[0])
    assert run.snapshot() is None


def test_in_the_near_field_scanning_shows_nothing():
    near = ("physics.model=near", "physics.fresnel_number=0.1")
    run = run_of(*near)
    for one in exposures()[:3]:
        run.add(one)
    assert run.snapshot() is None


def test_the_pixel_is_the_objects():
    run = run_of()
    run.add(exposures()[0])
    snapshot = run.snapshot()
    assert snapshot is not None
    assert snapshot.pixel_m == pytest.approx((PIXEL_M, PIXEL_M))
