"""What the reconstruction predicts, beside what was measured."""

import numpy as np
import pytest

from tests.recon.small_scan import SmallScan
from tests.recon.test_reconstruction import PIXEL_M, a_reconstruction, feed


def test_the_newest_exposure_comes_with_its_prediction_in_photons():
    scan = SmallScan(lines=6)
    recon = a_reconstruction(scan)
    feed(recon, scan)
    for _ in range(150):
        recon.step(live=False)
    newest = recon.snapshot().latest
    assert newest.index == len(scan.corners) - 1
    assert newest.position_m == pytest.approx(tuple(scan.centres_px[-1] * PIXEL_M))
    np.testing.assert_allclose(newest.measured, scan.counts(2e5)[-1], rtol=1e-3)
    misfit = np.sqrt(newest.predicted) - np.sqrt(newest.measured)
    assert (misfit**2).sum() < 0.02 * newest.measured.sum()


def test_the_newest_stays_the_newest_when_its_place_is_used_again():
    scan = SmallScan(lines=6)
    recon = a_reconstruction(scan, store=16)
    feed(recon, scan)
    snapshot = recon.snapshot()
    assert snapshot.latest.index == len(scan.corners) - 1
    assert len(snapshot.positions_m) == 16
    assert snapshot.positions_m[-1] == pytest.approx(snapshot.latest.position_m)
