from itertools import islice

import numpy as np
import pytest

from ptystream.errors import ConfigError
from ptystream.physics.probes import ProbeGrid
from ptystream.recon.start import from_optics
from ptystream.sim import experiment as experiments
from ptystream.sim.experiment import build, simulate
from ptystream.sim.settings import preset

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


def test_a_scan_can_be_had_as_arrays(tiny):
    settings = tiny(detector={"size_px": 32, "dtype": "uint32"})
    made, streamed = simulate(settings), build(settings)
    assert made.frames.dtype == np.uint32
    assert np.array_equal(made.frames, list(streamed.frames(0)))
    assert np.array_equal(made.positions_m, streamed.positions_m(0))
    assert made.geometry == streamed.geometry
    assert np.array_equal(made.truth.object, streamed.truth.object)


def test_arrays_beyond_memory_are_refused(tiny, monkeypatch):
    monkeypatch.setattr(experiments, "MAX_FRAMES_BYTES", 20 * 32 * 32 * 2 - 1)
    with pytest.raises(ConfigError, match="20 frames of 2048 bytes: expected at most"):
        simulate(tiny())


def test_a_shaken_raster_is_told_as_it_was_run(tiny):
    scan = {"jitter_m": 0.0, "shake_px": 2.0}
    experiment = build(tiny(scan=scan, encoder={"noise_m": 0.0}))
    straight = build(tiny(scan={"jitter_m": 0.0})).track.nominal_m
    away = (experiment.positions_m(0) - straight) / experiment.truth.pixel_m
    assert 1 < np.abs(away).max() <= 2


def test_a_blur_of_wide_steps_stays_on_the_canvas(tiny):
    experiment = build(tiny(scan={"overlap": 0.0, "blur_points": 16}))
    assert len(list(experiment.frames(0))) == 20


def test_many_sub_steps_of_a_fly_scan_converge(tiny):
    scan = {"blur_points": 64, "overlap": 0.7, "jitter_m": 0.0}
    best, fine, poor = (
        np.concatenate(list(build(tiny(scan=scan | {"blur_points": n})).patterns()))
        for n in (64, 32, 4)
    )
    assert np.linalg.norm(fine - best) < 2e-3 * np.linalg.norm(best)
    assert np.linalg.norm(poor - best) > 5 * np.linalg.norm(fine - best)


ASTIGMATIC = {"aberrations": ((1, 2, 3e-9, 0.4), (3, 0, 2e-5, 0.0))}


@pytest.mark.parametrize("optics", [{}, ASTIGMATIC])
def test_the_metadata_of_a_microscope_make_its_probe(optics):
    exact = {"optics": {"defocus_error": 0.0, **optics}, "scan": {"shape": (2, 2)}}
    experiment = build(preset("lattice", exact))
    truth = experiment.truth
    grid = ProbeGrid((64, 64), truth.pixel_m, experiment.geometry.wavelength_m)
    made = from_optics(experiment.meta["optics"], grid).numpy()
    overlap = abs(np.vdot(made, truth.probe[0])) / np.linalg.norm(truth.probe)
    assert overlap > 0.999  # their rims are softened differently
    other = build(preset("lattice", {"scan": {"shape": (2, 2)}})).meta["optics"]
    wrong = from_optics(other, grid).numpy()
    assert abs(np.vdot(wrong, truth.probe[0])) / np.linalg.norm(truth.probe) < 0.99


def test_a_microscopes_geometry_gives_its_angles():
    made = build(preset("lattice", {"scan": {"shape": (2, 2)}}))
    geometry = made.geometry
    angle = geometry.detector_pixel_m[0] / geometry.distance_m
    assert angle == pytest.approx(2e-3)
    assert made.truth.pixel_m[0] == pytest.approx(4.1757e-12 / (64 * 2e-3), rel=1e-4)
    # 100 electrons/Å² on steps of 1.5 Å.
    assert (np.abs(made.truth.probe) ** 2).sum() == pytest.approx(225, rel=1e-6)
