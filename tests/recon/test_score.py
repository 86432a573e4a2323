import json
from dataclasses import asdict, replace

import numpy as np
import pytest

from ptystream.errors import ConfigError, FileFormatError
from ptystream.recon.score import Image, compare, score
from ptystream.recon.snapshot import Snapshot

N = 128
PIXEL = (10e-9, 10e-9)
ORIGIN = (2e-6, -3e-6)


def picture(seed: int, n: int = N) -> np.ndarray:
    """Structure in 0..1, up to 0.35 cycles a pixel."""
    noise = np.fft.fft2(np.random.default_rng(seed).normal(size=(n, n)))
    f = np.hypot(np.fft.fftfreq(n)[:, None], np.fft.fftfreq(n))
    image = np.fft.ifft2(noise * (f < 0.35) / (0.02 + f)).real
    return (image - image.min()) / np.ptp(image)


def grain(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    rng = np.random.default_rng([seed, 9])
    return (rng.normal(size=shape) + 1j * rng.normal(size=shape)) / 2**0.5


def fourier_shifted(image: np.ndarray, shift: tuple[float, float]) -> np.ndarray:
    fy, fx = (np.fft.fftfreq(n) for n in image.shape[-2:])
    ramp = np.exp(-2j * np.pi * (shift[0] * fy[:, None] + shift[1] * fx[None, :]))
    return np.fft.ifft2(np.fft.fft2(image) * ramp)


def tilt(shape: tuple[int, ...], ramp: tuple[float, float]) -> np.ndarray:
    y, x = (np.arange(n) for n in shape[-2:])
    return np.exp(1j * (ramp[0] * y[:, None] + ramp[1] * x[None, :]))


OBJECT = (0.6 + 0.4 * picture(1)) * np.exp(1j * picture(2))


def hermite(k: int = 48) -> np.ndarray:
    y, x = np.mgrid[:k, :k] - k // 2
    first = np.exp(-(y**2 + x**2) / 60 + 0.004j * (y**2 + 2 * x**2))
    return np.stack([first, 0.05 * x * first])


TRUTH = Image(OBJECT[None], PIXEL, ORIGIN, probe=hermite())


def changed(image: np.ndarray, **more: object) -> Image:
    return replace(TRUTH, object=image[None], **more)


def test_the_truth_is_perfect():
    found = score(TRUTH, TRUTH, margin_px=10)
    assert found.paper.psnr_amplitude_db == found.aligned.psnr_amplitude_db == 200
    assert found.paper.ssim_phase == pytest.approx(1)
    assert found.frc.half_bit.resolution_m == pytest.approx(10e-9)
    assert found.frc.half_bit.nyquist_limited
    assert found.frc.phase.nyquist_limited
    assert found.probe_error == pytest.approx(0, abs=1e-6)
    assert found.region_px == (N - 20) ** 2
    assert found.covered == 1


def test_the_paper_forgives_a_phase_and_a_scale_but_no_ramp():
    turned = score(changed(OBJECT * 3 * np.exp(2j)), TRUTH)
    assert turned.paper.psnr_amplitude_db > 199
    assert turned.paper.psnr_phase_db > 199
    tilted = score(changed(OBJECT * tilt(OBJECT.shape, (0.01, 0.0))), TRUTH)
    # A ramp of 0.01 rad per pixel over 128: RMS 0.3695 rad.
    assert tilted.paper.psnr_phase_db == pytest.approx(
        20 * np.log10(np.pi / (0.01 * np.sqrt((N**2 - 1) / 12))), abs=0.01
    )
    assert tilted.paper.psnr_amplitude_db > 199
    assert tilted.aligned.psnr_phase_db > 90
    assert tilted.alignment.ramp_rad_px == pytest.approx((0.01, 0), abs=1e-6)


def test_a_shifted_tilted_scaled_result_is_as_good_as_its_noise():
    noise = 0.02
    spoilt = (
        2j * fourier_shifted(OBJECT, (1.3, -2.4)) * tilt(OBJECT.shape, (0.02, 0.01))
    )
    result = changed(spoilt + 2 * noise * grain(0, OBJECT.shape))
    found = score(result, TRUTH, margin_px=20)
    assert found.alignment.shift_px == pytest.approx((1.3, -2.4), abs=0.01)
    assert found.alignment.scale == pytest.approx(2, rel=0.01)
    # Half the noise is in the amplitude: 37.0 dB, less what interpolation smooths.
    assert found.aligned.psnr_amplitude_db == pytest.approx(37.3, abs=0.6)
    assert found.paper.psnr_amplitude_db < 25
    assert found.paper.psnr_phase_db < found.flat_paper.psnr_phase_db
    assert found.alignment.error == pytest.approx(noise / 0.8, rel=0.15)


def test_flat_scores_are_those_of_a_flat_object():
    found = score(TRUTH, TRUTH)
    flat = score(changed(np.full((N, N), 0.3j)), TRUTH)
    assert asdict(flat.paper) == pytest.approx(asdict(found.flat_paper))
    assert asdict(flat.aligned) == pytest.approx(asdict(found.flat_aligned))
    amplitude, phase = np.abs(OBJECT), picture(2)
    expected = -10 * np.log10(np.mean((amplitude - np.median(amplitude)) ** 2))
    assert flat.paper.psnr_amplitude_db == pytest.approx(expected)
    expected = 20 * np.log10(np.pi / phase.std())
    assert flat.paper.psnr_phase_db == pytest.approx(expected)
    assert np.isnan(flat.frc.half_bit.resolution_m)


def test_slices_multiply():
    slices = np.stack([np.exp(0.5j * picture(2)), OBJECT * np.exp(-0.5j * picture(2))])
    found = score(replace(TRUTH, object=slices), TRUTH)
    assert found.paper.psnr_phase_db > 199


def test_another_origin_and_canvas_are_laid_over_the_truth():
    inner = OBJECT[20:-20, 30:-10]
    origin = (ORIGIN[0] + 20 * PIXEL[0], ORIGIN[1] + 30 * PIXEL[1])
    found = score(changed(inner, origin_m=origin), TRUTH, margin_px=10)
    assert found.paper.psnr_phase_db > 100
    assert found.region_px == (N - 40) * (N - 40)
    assert found.covered == pytest.approx((N - 40) ** 2 / (N - 20) ** 2)


def test_only_what_is_covered_counts():
    coverage = np.zeros((N, N), np.float32)
    coverage[30:90, 20:100] = 1
    wrong = np.where(coverage > 0, OBJECT, 0.1)
    found = score(changed(wrong, coverage=coverage), TRUTH)
    assert found.aligned.psnr_phase_db > 100
    assert found.aligned.ssim_amplitude == pytest.approx(1)
    assert found.region_px == 60 * 80
    assert found.covered == pytest.approx(60 * 80 / N**2)


def test_finer_pixels_are_compared_on_the_truths_grid():
    spectrum = np.fft.fftshift(np.fft.fft2(OBJECT))
    fine = 4 * np.fft.ifft2(np.fft.ifftshift(np.pad(spectrum, N // 2)))
    result = changed(fine, pixel_m=(5e-9, 5e-9))
    found = score(result, TRUTH, margin_px=16)
    assert found.paper.psnr_amplitude_db > 50
    assert found.frc.half_bit.nyquist_limited


def test_probe_is_compared_up_to_its_ambiguities():
    theta = 0.7
    mix = np.array(
        [[np.cos(theta), 1j * np.sin(theta)], [1j * np.sin(theta), np.cos(theta)]]
    )
    mixed = np.einsum("mn,nij->mij", mix, hermite())
    spoilt = 5j * fourier_shifted(mixed, (1.5, -0.7)) * tilt(mixed.shape, (-0.1, 0.05))
    found = score(replace(TRUTH, probe=spoilt), TRUTH)
    assert found.probe_error < 0.01
    assert found.probe_alignment is not None
    assert found.probe_alignment.shift_px == pytest.approx((1.5, -0.7), abs=0.01)
    assert found.probe_alignment.ramp_rad_px == pytest.approx((-0.1, 0.05), abs=1e-3)


def test_probe_error_is_the_share_that_is_wrong():
    other = hermite()
    other[1] = 0
    lost = np.sum(np.abs(hermite()[1]) ** 2) / np.sum(np.abs(hermite()) ** 2)
    found = score(replace(TRUTH, probe=other), TRUTH)
    assert found.probe_error == pytest.approx(np.sqrt(lost), rel=1e-3)


def test_probe_in_another_window_and_no_probe():
    bright = np.zeros((1, 48, 48), complex)
    bright[:, 4:-4, 7:-6] = np.exp(0.3j * np.arange(35))
    smaller = score(
        replace(TRUTH, probe=bright[:, 4:-4, 5:-6]), replace(TRUTH, probe=bright)
    )
    assert smaller.probe_error < 1e-6
    assert smaller.probe_alignment is not None
    assert smaller.probe_alignment.shift_px == pytest.approx((0, 1), abs=1e-6)
    dark = score(replace(TRUTH, probe=np.zeros((1, 48, 48), complex)), TRUTH)
    assert dark.probe_error == 1
    none = score(replace(TRUTH, probe=None), TRUTH)
    assert np.isnan(none.probe_error)
    assert none.probe_alignment is None


def test_a_snapshot_can_be_scored():
    snapshot = Snapshot(
        object=OBJECT[None].astype(np.complex64),
        probe=hermite().astype(np.complex64),
        coverage=np.ones((N, N), np.float32),
        origin_m=ORIGIN,
        pixel_m=PIXEL,
        positions_m=np.zeros((1, 2)),
        step=1,
        exposures=1,
    )
    assert score(snapshot, TRUTH).aligned.psnr_phase_db > 100


def test_the_score_is_safe_for_json():
    found = score(changed(np.ones((N, N))), replace(TRUTH, probe=None)).as_dict()
    again = json.loads(json.dumps(found, allow_nan=False))
    assert again["probe_error"] is None
    assert again["frc"]["half_bit"]["resolution_m"] is None
    assert again["aligned"]["psnr_phase_db"] > 0
    assert len(again["frc"]["correlation"]) == len(again["frc"]["frequency_per_m"])


def test_two_noisy_halves_agree_down_to_the_noise():
    f = np.hypot(np.fft.fftfreq(N)[:, None], np.fft.fftfreq(N))
    first, second = (
        np.fft.ifft2(np.fft.fft2(OBJECT) + np.where(f > 0.2, 30, 0) * grain(s, (N, N)))
        for s in (3, 4)
    )
    moved = fourier_shifted(second, (0.6, -1.1)) * tilt((N, N), (0.01, 0.02)) * 1.5
    found = compare(changed(moved), changed(first), margin_px=16)
    assert found.alignment.shift_px == pytest.approx((0.6, -1.1), abs=0.06)
    assert found.frc.half_bit.resolution_m == pytest.approx(0.5 / 0.2 * 10e-9, rel=0.1)
    assert not found.frc.half_bit.nyquist_limited
    assert found.frc.one_bit.resolution_m >= found.frc.half_bit.resolution_m
    json.dumps(found.as_dict(), allow_nan=False)


@pytest.mark.parametrize(
    ("result", "says"),
    [
        (replace(TRUTH, origin_m=(1.0, 1.0)), "covers 0 of"),
        (replace(TRUTH, coverage=np.zeros((N, N))), "covers 0 of"),
        (changed(np.full((N, N), np.nan + 0j)), "aren't finite"),
        (changed(np.zeros((N, N), complex)), "zero all over"),
        (replace(TRUTH, object=OBJECT), "expected \\[slices, H, W\\]"),
        (replace(TRUTH, probe=np.full((1, 48, 48), np.inf + 0j)), "probe"),
    ],
)
def test_what_can_not_be_scored_is_named(result, says):
    with pytest.raises(FileFormatError, match=says):
        score(result, TRUTH)


def test_a_margin_wider_than_the_truth_is_named():
    with pytest.raises(FileFormatError, match="covers 0 of the 0"):
        score(TRUTH, TRUTH, margin_px=70)


def test_a_negative_margin_is_named():
    with pytest.raises(ConfigError, match="margin of -1"):
        score(TRUTH, TRUTH, margin_px=-1)
