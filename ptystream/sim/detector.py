"""From expected photons to counts: noise, read-out noise, saturation."""

from typing import Literal

import numpy as np
from jaxtyping import Float64, UInt
from numpy.random import Generator

from ptystream.sim.noise import Noise, poisson

CountType = Literal["uint16", "uint32"]


def expose(
    photons: Float64[np.ndarray, "n k k"],
    rng: Generator,
    *,
    noise: Noise = poisson,
    readout_counts: float = 0.0,
    dtype: CountType = "uint16",
    saturation: int | None = None,
) -> UInt[np.ndarray, "n k k"]:
    """Return what the detector reads, clipped at ``saturation``.

    Without a saturation of its own the detector stops two below the type's maximum:
    real ones flag dead pixels with the maximum and the value below it.
    """
    counts = noise(photons, rng)
    if readout_counts > 0:
        counts = counts + rng.normal(0, readout_counts, photons.shape)
    limit = int(np.iinfo(dtype).max) - 2
    top = limit if saturation is None else min(saturation, limit)
    return np.clip(np.rint(counts), 0, top).astype(dtype)
