"""What a reconstruction says of itself while a scan grows, and after."""

import numpy as np

from ptystream.recon.options import EngineOptions
from ptystream.recon.options_quality import QualityOptions
from tests.recon.general_scan import PIXEL_M, GeneralScan
from tests.recon.small_scan import SIZE

PATIENT = QualityOptions(looks=4)
LOOK = 50


def growing() -> list[bool]:
    """Return whether it has converged, as a scan grows by a frame each half look."""
    scan = GeneralScan(lines=7)
    counts, seen = scan.counts(1e5), []
    whole, scan.corners = scan.corners, scan.corners[:24]
    engine = EngineOptions(batch=8, held_out=0.15)
    recon = scan.reconstruction(counts=counts, quality=PATIENT, engine=engine)
    for index in range(24, len(whole) + 24):
        for _ in range(LOOK // 2):
            recon.step()
        seen.append(recon.measure().converged)
        if index < len(whole):
            place = (whole[index] + SIZE / 2) * PIXEL_M
            recon.add(index, counts[index], tuple(place), (tuple(place), tuple(place)))
    return seen


def test_a_growing_scan_converges_after_its_end_and_the_same_way_each_time():
    seen = growing()
    assert not any(seen[:25])
    assert seen[-1]
    assert np.abs(np.diff(seen)).sum() == 1
    assert growing() == seen
