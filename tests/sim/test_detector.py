import numpy as np
import pytest

from ptystream.sim import noise
from ptystream.sim.detector import expose


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_photon_noise_has_its_mean_and_variance():
    photons = np.full((10, 100, 100), 7.0)
    counts = expose(photons, rng()).astype(float)
    # 1e5 draws: the mean is good to 0.03, the variance to 0.2, at three deviations.
    assert counts.mean() == pytest.approx(7, abs=0.03)
    assert counts.var() == pytest.approx(7, abs=0.2)


def test_without_noise_counts_are_rounded_photons():
    photons = np.array([[[0.4, 0.6], [2.0, 9.7]]])
    assert expose(photons, rng(), noise=noise.none).tolist() == [[[0, 1], [2, 10]]]


def test_readout_noise_adds_and_never_goes_below_zero():
    photons = np.full((1, 200, 200), 100.0)
    counts = expose(photons, rng(), noise=noise.none, readout_counts=5.0).astype(float)
    assert counts.std() == pytest.approx(5, rel=0.03)
    assert expose(photons * 0, rng(), readout_counts=5.0).max() < 40


@pytest.mark.parametrize(
    ("dtype", "saturation", "top"),
    [("uint16", None, 65533), ("uint16", 1000, 1000), ("uint32", 10**6, 10**6)],
)
def test_saturates(dtype, saturation, top):
    photons = np.array([[[1e9, 0.0]]])
    counts = expose(
        photons, rng(), noise=noise.none, dtype=dtype, saturation=saturation
    )
    assert counts.dtype == dtype
    assert counts.tolist() == [[[top, 0]]]
