"""Flagged pixels: dead ones, saturated ones, those beside the detector."""

from dataclasses import replace

import numpy as np
import pytest

from ptystream.recon.reconstruction import FIRST
from ptystream.service.believed import (
    any_doubtful,
    doubtful_from,
    filled,
    has_light,
    usable,
)
from ptystream.service.scan import Extras, ScanRun
from ptystream.wire.messages import Exposure
from tests.recon.small_scan import SIZE, SmallScan
from tests.service.exposures import config, exposures, start

FLAG = 65535
U2 = np.dtype("<u2")


@pytest.mark.parametrize(
    ("dtype", "meta", "told", "wanted"),
    [
        ("|u1", {}, None, 254),
        ("<u2", {}, None, 65534),
        ("<u4", {}, None, 2_000_000_000),
        ("<u4", {"saturation": 126_634}, None, 126_634),
        ("<u2", {"saturation": 126_634}, None, 65534),
        ("<u4", {"saturation": 9, "preprocess": {"binning": 2}}, None, 2_000_000_000),
        ("<u4", {"saturation": 9, "preprocess": {"binning": 1}}, None, 9),
        ("<u2", {"saturation": "high"}, 1000, 1000),
        ("<u2", {"saturation": True, "preprocess": 3}, None, 65534),
        ("<u2", {"saturation": -5}, None, 65534),
    ],
)
def test_the_least_limit_counts(dtype, meta, told, wanted):
    assert doubtful_from(np.dtype(dtype), meta, told) == wanted


def test_flags_are_no_light():
    dark = np.zeros((4, 4), U2)
    dark[1, 1] = FLAG
    assert not has_light(dark, FLAG - 1)
    dark[0, 0] = 1
    assert has_light(dark, FLAG - 1)
    assert has_light(np.eye(4, dtype=U2), FLAG - 1)


def test_what_no_pattern_has_is_masked_and_what_some_have_is_filled():
    patterns = np.full((3, 2, 2), 5, U2)
    patterns[:, 0, 0] = FLAG
    patterns[1, 1, 1] = FLAG
    mask = usable(patterns, FLAG - 1, None)
    assert mask is not None
    assert mask.tolist() == [[False, True], [True, True]]
    own = np.array([[True, False], [True, True]])
    both = usable(patterns, FLAG - 1, own)
    assert both is not None
    assert both.tolist() == [[False, False], [True, True]]
    assert any_doubtful(patterns, FLAG - 1, mask)
    assert not any_doubtful(patterns[0], FLAG - 1, mask)
    assert filled(patterns, FLAG - 1).tolist() == [[[0, 5], [5, 5]]] * 3
    clean = np.ones((3, 2, 2), U2)
    assert usable(clean, FLAG - 1, None) is None
    assert filled(clean, FLAG - 1) is clean


def spoilt(taken: list[Exposure], every: int, dead: bool) -> list[Exposure]:
    """Exposures with a dead row, and a saturated pixel in every so-manyth."""
    made = []
    for place, one in enumerate(taken):
        counts = one.frame.counts.astype(U2)
        if dead:
            counts[3] = FLAG
        if place % every == every - 1:
            counts[SIZE // 2, SIZE // 2] = FLAG - 1
        made.append(replace(one, frame=replace(one.frame, counts=counts)))
    return made


def error_of(taken: list[Exposure]) -> tuple[float, ScanRun]:
    probe = SmallScan().probe[None].astype(np.complex64)
    run = ScanRun(start(), config(), run="r", extras=Extras(probe=probe))
    for one in taken:
        run.add(one)
    assert run.recon is not None
    while run.recon.engine.steps < 60:
        run.step()
    snapshot = run.snapshot()
    assert snapshot is not None
    return snapshot.quality.held_out_error, run


def test_flagged_pixels_do_not_spoil_a_reconstruction():
    clean, _ = error_of(exposures())
    for every in (5, FIRST + 3):  # among the first exposures, or only later
        error, run = error_of(spoilt(exposures(), every, dead=True))
        assert error < 2 * clean
        assert run.recon is not None
        mask = run.recon.setting.mask
        assert mask is not None
        assert mask.sum() == SIZE * (SIZE - 1)
        assert run.recon.exposures.physics.saturated == FLAG - 1


def test_dead_pixels_alone_need_no_look_at_each_frame():
    error, run = error_of(spoilt(exposures(), 1000, dead=True))
    assert run.recon is not None
    assert run.recon.exposures.physics.saturated is None
    assert error < 2 * error_of(exposures())[0]


def test_a_dark_frame_with_flags_is_dark():
    run = ScanRun(start(), config(), run="r")
    one = exposures()[0]
    counts = np.zeros((SIZE, SIZE), U2)
    counts[0, 0] = FLAG
    run.add(replace(one, frame=replace(one.frame, counts=counts)))
    assert run.dark == 1
