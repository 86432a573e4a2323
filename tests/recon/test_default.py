"""What the defaults are for: sparse scans, dense ones, and a defocus that is off."""

import pytest

from ptystream.models.pixels import Pixels
from ptystream.recon.options import ObjectOptions, ProbeOptions
from tests.recon.lens_scan import LensScan


def left(recon) -> float:
    """Return the held-out error over that of an empty object."""
    quality = recon.measure()
    return quality.held_out_error / quality.flat_error


def test_a_sparse_scan_with_an_unknown_probe_is_the_default_s():
    """36 frames, half a frame apart. Plain pixels end above an empty object."""
    scan = LensScan(lines=6, step=16)
    default = scan.ended(300, told_rad=9.0)
    plain = scan.ended(300, told_rad=9.0, object=ObjectOptions(field="pixels"))
    assert not isinstance(default.object, Pixels)
    assert left(default) < 0.8
    assert left(default) < 0.4 * left(plain)


def test_a_dense_bright_scan_ends_with_plain_pixels():
    scan = LensScan(lines=10, step=4, photons=1e6, defocus_rad=4.0)
    default = scan.ended(125, told_rad=4.4)
    plain = scan.ended(125, told_rad=4.4, object=ObjectOptions(field="pixels"))
    assert isinstance(default.object, Pixels)
    assert left(default) < 0.03
    assert left(default) < 1.2 * left(plain)
    smooth = scan.ended(125, told_rad=4.4, object=ObjectOptions(field="smooth"))
    assert left(default) < 0.6 * left(smooth)


@pytest.mark.parametrize("share", [0.5, 1.5])
def test_a_defocus_off_by_half_is_found_by_turning_the_pupil(share):
    scan = LensScan(lines=6, step=16)
    wrong = {}
    for order in (0, 4):
        recon = scan.ended(
            150,
            told_rad=share * scan.defocus_rad,
            object=ObjectOptions(field="smooth"),
            probe=ProbeOptions(aberrations=order),
        )
        wrong[order] = scan.wrong(recon)
    assert wrong[4] < 0.02
    assert wrong[0] > 0.025
