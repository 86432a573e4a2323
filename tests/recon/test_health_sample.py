import math

import numpy as np
import pytest
import torch

from ptystream.recon.exposures import Exposures
from ptystream.recon.health_sample import around_turn, sample
from ptystream.recon.hypotheses import LAGS, Places
from ptystream.recon.options import ReconOptions
from ptystream.recon.setting import Setting
from tests.recon.small_scan import SIZE, SmallScan

STEP = 4.0


def raster(lines: int, points: int, *, snake: bool = True) -> np.ndarray:
    rows, columns = np.divmod(np.arange(lines * points), points)
    back = snake & (rows % 2 == 1)
    columns = np.where(back, points - 1 - columns, columns)
    return np.stack([rows, columns], 1) * STEP


def places(place: np.ndarray) -> Places:
    return Places(np.arange(len(place)), place, SIZE / 4)


def test_both_sides_of_a_turn_are_taken():
    index = around_turn(places(raster(2, 200)), 100, SIZE)
    assert index is not None
    assert len(index) >= 70
    assert (np.abs(index - 199.5) < 60).all()
    assert (index < 200).sum() >= 35
    assert (index >= 200).sum() >= 35


def test_of_a_stage_that_flies_back_starts_of_lines_are_taken():
    index = around_turn(places(raster(3, 100, snake=False)), 100, SIZE)
    assert index is not None
    columns = index % 100
    assert (columns < 40).sum() >= 70


def test_along_one_line_there_is_nothing_to_try():
    assert around_turn(places(raster(1, 200)), 100, SIZE) is None


def test_too_few_are_not_tried():
    assert around_turn(places(raster(2, LAGS)), 100, SIZE) is None


def test_lost_frames_and_an_encoder_s_glitch_are_no_matter():
    place = raster(5, 40)
    kept = np.random.default_rng(0).random(len(place)) > 0.1
    place[60] += 1e4
    told = Places(np.flatnonzero(kept), place[kept], SIZE / 4)
    index = around_turn(told, 100, SIZE)
    assert index is not None
    assert len(index) >= 80
    assert 60 not in index


@pytest.fixture(scope="module")
def exposures() -> Exposures:
    scan = SmallScan(lines=11, step=3)
    setting = Setting(SIZE, (1.0, 1.0), torch.from_numpy(scan.probe)[None])
    made = Exposures(setting, ReconOptions(), None, torch.device("cpu"))
    for index, (counts, place) in enumerate(
        zip(scan.counts(1e5), scan.centres_px, strict=True)
    ):
        made.add(index, counts, tuple(place), None, math.nan)
    return made


def test_patterns_are_cut_to_the_light_and_the_probe_with_them(exposures):
    first = exposures.setting.probe
    got = sample(exposures, first, 80)
    assert got is not None
    tried, told = got
    size = tried.amplitude.shape[-1]
    assert tried.amplitude.shape == (80, size, size)
    assert size < SIZE
    assert tried.coarser == SIZE / size
    assert tried.probe.shape == (1, size, size)
    assert float(tried.amplitude.square().mean()) == pytest.approx(1, rel=1e-4)
    slots = torch.from_numpy(tried.index)
    light = exposures.store.amplitude(slots).square().sum()
    counted = tried.amplitude.square().sum() * tried.photons
    assert float(counted) == pytest.approx(float(light), rel=6e-3)
    power = torch.fft.fft2(first).abs().square().sum()
    kept = torch.fft.fft2(tried.probe).abs().square().sum()
    assert float(kept) == pytest.approx(float(power), rel=0.02)
    assert len(told.index) == 121
