"""What scanning shows: transmission, and a phase by its slopes."""

import numpy as np
import pytest
import torch

from ptystream.models.field import Box
from ptystream.recon.stxm import integrated, scanned

K = 32


def test_slopes_are_integrated():
    y, x = np.mgrid[:40, :56] / 20
    phase = torch.from_numpy(np.sin(2 * y) + 0.5 * np.cos(3 * x) + 0.3 * x * y)
    made = integrated(*torch.gradient(phase))
    wanted = phase - phase.mean()
    assert float((made - wanted).abs().max()) < 0.05 * float(wanted.abs().max())
    assert float(made.mean()) == pytest.approx(0, abs=1e-6)


def slab_scan(step: int = 6):
    """Return amplitudes, corners, probe and object: a smooth lens on a grey wedge."""
    side = K + 6 * step
    y, x = np.mgrid[:side, :side]
    phase = 1.5 * np.exp(-((y - side / 2) ** 2 + (x - side / 2) ** 2) / (2 * 12**2))
    truth = (0.6 + 0.4 * x / side) * np.exp(1j * phase)
    b, a = np.mgrid[:K, :K] - K / 2
    probe = np.exp(-(a**2 + b**2) / (2 * 3**2))
    grid = np.arange(0, side - K + 1, step)
    corners = np.array([(v, h) for v in grid for h in grid])
    waves = [probe * truth[v : v + K, h : h + K] for v, h in corners]
    far = np.fft.fftshift(np.fft.fft2(waves, norm="ortho"), axes=(1, 2))
    return np.abs(far), corners, probe, truth


def picture(mask=None, origin=(-100, 250)):
    amplitude, corners, probe, truth = slab_scan()
    box = Box(*origin, *truth.shape)
    made = scanned(
        torch.from_numpy(amplitude),
        torch.from_numpy(corners + origin),
        torch.from_numpy(probe**2),
        box,
        mask=mask,
    )
    inside = (slice(K // 2, -K // 2),) * 2
    return made.numpy()[inside], truth[inside]


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Return the correlation without ramps, which a mean slope leaves open."""
    y, x = np.mgrid[: one.shape[0], : one.shape[1]]
    basis = np.stack([np.ones(one.size), y.ravel(), x.ravel()], 1)
    first, second = (
        v.ravel() - basis @ np.linalg.lstsq(basis, v.ravel())[0] for v in (one, other)
    )
    return float(np.corrcoef(first, second)[0, 1])


def test_transmission_and_phase_of_a_scan():
    made, truth = picture()
    assert np.corrcoef(abs(made).ravel(), abs(truth).ravel())[0, 1] > 0.97
    assert correlation(np.angle(made), np.angle(truth)) > 0.97
    height = np.ptp(np.angle(made)) / np.ptp(np.angle(truth))
    assert 0.7 < height < 1.1  # as wide as the probe, so less steep


def test_a_dead_pixel_does_not_show():
    mask = torch.ones(K, K, dtype=torch.bool)
    mask[3, 4] = False
    amplitude, corners, probe, truth = slab_scan()
    amplitude[:, 3, 4] = 1e4
    made = scanned(
        torch.from_numpy(amplitude),
        torch.from_numpy(corners),
        torch.from_numpy(probe**2),
        Box(0, 0, *truth.shape),
        mask=mask,
    )
    clean, _ = picture(mask)
    inside = (slice(K // 2, -K // 2),) * 2
    assert np.allclose(made.numpy()[inside], clean, atol=1e-6)


def test_where_no_light_was_it_is_empty():
    amplitude, corners, probe, truth = slab_scan()
    box = Box(-50, -50, truth.shape[0] + 100, truth.shape[1] + 100)
    made = scanned(
        torch.from_numpy(amplitude),
        torch.from_numpy(corners),
        torch.from_numpy(probe**2),
        box,
    )
    assert float(made[:30, :30].abs().sub(1).abs().max()) < 1e-3


def test_one_pattern_without_light_is_no_nan():
    made = scanned(
        torch.zeros(1, K, K),
        torch.zeros(1, 2, dtype=torch.long),
        torch.ones(K, K),
        Box(0, 0, K, K),
    )
    assert torch.isfinite(made.abs()).all()
