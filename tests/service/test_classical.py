"""Classical engines on a file: the same scan, the same honest quality."""

from dataclasses import replace

import numpy as np
import pytest

from ptystream.config import load
from ptystream.errors import ConfigError
from ptystream.service.classical import reconstruct
from ptystream.service.first_object import FirstObject
from ptystream.service.offline import Acquired
from ptystream.service.scan import Extras
from ptystream.wire.messages import Exposure, Frame, Geometry, ScanStart
from tests.recon.small_scan import SIZE, SmallScan

GEOMETRY = Geometry(1.24e-10, 0.726, (75e-6, 75e-6))
PIXEL_M = GEOMETRY.object_pixel_m((SIZE, SIZE))[0]


def a_scan() -> Acquired:
    scan = SmallScan(lines=8)
    places = [(y, x) for y, x in scan.centres_px * PIXEL_M]
    exposures = [
        Exposure(Frame("s", i, counts), place, place, place)
        for i, (counts, place) in enumerate(zip(scan.counts(2e5), places, strict=True))
    ]
    start = ScanStart("s", "det", shape=(SIZE, SIZE), dtype="<u2", geometry=GEOMETRY)
    return Acquired(start, exposures, Extras(probe=scan.probe[None]))


def settings(*flags: str):
    told = ("refine.max_s=1.5", "engine.held_out=0.15", "engine.threads=1", *flags)
    return load(environment={}, flags=told)


@pytest.mark.parametrize("name", ["epie", "raar"])
def test_a_classical_engine_predicts_what_it_has_not_seen(name: str):
    told = []
    _, snapshot, end = reconstruct(
        a_scan(), settings(), name, run="r", progress=told.append
    )
    assert snapshot.quality.held_out_error < 0.3 * snapshot.quality.flat_error
    assert snapshot.object.shape == (
        1,
        SmallScan(lines=8).side,
        SmallScan(lines=8).side,
    )
    assert snapshot.origin_m == pytest.approx((0.0, 0.0))
    assert len(snapshot.positions_m) == snapshot.exposures < 64
    assert np.isfinite(snapshot.object).all()
    assert told[-1].snapshot.step >= snapshot.step > 0
    assert end.refined == "the limit of 1.5 s"


def test_an_engine_s_own_settings_reach_it():
    """A step of 0 leaves the object empty, which no other setting would."""
    still = settings("classical.epie.object_step=0", "classical.epie.probe_from=9999")
    _, snapshot, _ = reconstruct(a_scan(), still, "epie", run="r", stop=lambda: True)
    np.testing.assert_array_equal(snapshot.object, 1)


def test_it_begins_with_the_object_that_it_is_given(tmp_path):
    small = SmallScan(lines=8)
    given = FirstObject(
        small.object[None], (0.0, 0.0), (PIXEL_M, PIXEL_M), tmp_path / "warm.h5"
    )
    scan = a_scan()
    extras = replace(scan.extras, given_object=given)
    errors = [
        reconstruct(each, settings(), "epie", run="r", stop=lambda: True)[1]
        for each in (scan, replace(scan, extras=extras))
    ]
    cold, warm = (s.quality.held_out_error for s in errors)
    assert warm < 0.1 * cold


def test_a_stop_ends_it_after_a_sweep():
    _, snapshot, end = reconstruct(
        a_scan(), settings("refine.max_s=60"), "rpie", run="r", stop=lambda: True
    )
    assert snapshot.step == 1
    assert end.refined == "stopped by the user"


def test_so_many_sweeps_and_no_more():
    told = settings("refine.max_s=60", "refine.max_steps=3")
    _, snapshot, end = reconstruct(a_scan(), told, "rpie", run="r")
    assert snapshot.step == 3
    assert end.refined == "the limit of 3 sweeps"


def test_no_engine_of_that_name_and_nothing_to_learn_from_are_named():
    with pytest.raises(ConfigError, match="expected one of epie"):
        reconstruct(a_scan(), settings(), "epi", run="r")
    with pytest.raises(ConfigError, match="nothing is left"):
        reconstruct(a_scan(), settings("engine.held_out=1"), "epie", run="r")
