from itertools import islice

import numpy as np
import pytest

from ptystream.errors import ConfigError
from ptystream.sim.experiment import build

NO_NOISE = {"size_px": 32, "noise": "none"}


def test_counts_are_photons_times_transmission(tiny):
    flat = {"amplitude": (0.5, 0.5), "phase_rad": (0, 2)}
    frames = list(build(tiny(sample=flat)).frames(0))
    # 20 frames of 25,000 photons: good to 0.5 % at three deviations.
    assert np.mean([f.sum() for f in frames]) == pytest.approx(0.25e5, rel=5e-3)


def test_an_empty_specimen_shows_the_pupil(tiny):
    empty = {"amplitude": (1, 1), "phase_rad": (0, 0)}
    optics = {"photons_per_frame": 1e6, "mode_powers": (0.8, 0.2)}
    experiment = build(
        tiny(sample=empty, optics={"outer_zone_m": 1e-7, **optics}, detector=NO_NOISE)
    )
    probe = experiment.truth.probe
    pupil = (np.abs(np.fft.fft2(probe, norm="ortho")) ** 2).sum(axis=0)
    for frame in islice(experiment.frames(0), 5):
        assert np.abs(frame - np.fft.fftshift(pupil)).max() <= 0.6


def test_the_truth_file_explains_the_frames(tiny):
    settings = tiny(
        scan={"shape": (2, 3), "jitter_m": 0.0, "centre_m": (0.0, 0.0)},
        detector=NO_NOISE,
    )
    experiment = build(settings)
    truth = experiment.truth
    corners = (truth.positions_m - truth.origin_m) / truth.pixel_m - 16
    for corner, frame in zip(corners, experiment.frames(0), strict=True):
        y, x = np.rint(corner).astype(int)
        assert np.allclose(corner, (y, x))  # a step of 6 pixels, and no jitter
        window = truth.object[0, y : y + 32, x : x + 32]
        wave = np.fft.fftshift(np.fft.fft2(truth.probe[0] * window, norm="ortho"))
        expected = np.abs(wave) ** 2
        # Rounded counts are 0.2 % off; a window one pixel off differs by 10 % or more.
        assert np.linalg.norm(frame - expected) < 0.01 * np.linalg.norm(expected)


def test_a_seed_repeats_everything_and_a_scan_only_its_noise(tiny):
    one, two = build(tiny()), build(tiny())
    assert np.array_equal(one.truth.object, two.truth.object)
    assert np.array_equal(list(one.frames(0)), list(two.frames(0)))
    assert np.array_equal(one.samples_m(0), two.samples_m(0))
    assert not np.array_equal(list(one.frames(0)), list(one.frames(1)))
    assert not np.array_equal(one.samples_m(0), one.samples_m(1))
    other = build(tiny(seed=2))
    assert not np.array_equal(one.track.mean_m, other.track.mean_m)


@pytest.mark.parametrize("blur_points", [1, 4])
def test_the_encoders_see_where_the_stage_was(tiny, blur_points):
    scan = {"blur_points": blur_points, "jitter_m": 20e-9}
    experiment = build(tiny(scan=scan, encoder={"noise_m": 1e-9}))
    means = experiment.samples_m(0).reshape(20, 10, 2).mean(axis=1)
    assert np.abs(means - experiment.truth.positions_m).max() < 1.5e-9
    assert np.abs(means - experiment.track.nominal_m).max() > 15e-9


def test_a_flying_stage_blurs(tiny):
    flying = build(tiny(detector=NO_NOISE, scan={"blur_points": 6}))
    way = flying.track.during(6)
    assert np.allclose(
        np.ptp(way[..., 1], axis=1), 5 / 6 * flying.meta["scan"]["step_m"][1]
    )
    snapshots = [flying.diffraction.patterns(way[:, [k]]) for k in range(6)]
    frames = np.array(list(flying.frames(0)), float)
    assert np.abs(frames - np.mean(snapshots, axis=0)).max() <= 0.51
    assert np.abs(frames - snapshots[2]).max() > 50


def test_the_metadata_tells_nominal_values(tiny):
    optics = {"outer_zone_m": 1e-7, "defocus_m": 123e-6, "defocus_error": 0.2}
    meta = build(tiny(optics=optics)).meta
    assert meta["optics"]["defocus_m"] == pytest.approx(1.2 * 123e-6)
    assert meta["scan"]["shape"] == [4, 5]
    assert meta["scan"]["step_m"] == pytest.approx([6 * 5.166e-8] * 2, rel=1e-3)
    assert meta["sample"] == "simulated"


def test_a_spiral_can_be_scanned(tiny):
    experiment = build(tiny(scan={"pattern": "fermat"}))
    assert len(list(experiment.frames(0))) == 20
    assert experiment.meta["scan"]["pattern"] == "fermat"


def test_says_when_detector_and_lens_do_not_fit(tiny):
    with pytest.raises(ConfigError, match="outermost zone"):
        build(tiny(optics={"outer_zone_m": 20e-9}))
