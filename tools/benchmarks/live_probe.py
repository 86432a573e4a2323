"""Wrong first probes, as files that the service is given."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from ptystream.publish.files import Result, write_result
from ptystream.sim.experiment import build
from ptystream.sim.settings import SimulateSettings

Spoil = Callable[[np.ndarray], np.ndarray]
"""Makes a wrong probe of one, ``[modes, k, k]``."""


def shifted(probe: np.ndarray) -> np.ndarray:
    """Return the probe 3 px lower."""
    return np.roll(probe, 3, axis=-2)


def half_size(probe: np.ndarray) -> np.ndarray:
    """Return the probe half as large, in the middle of its window."""
    side = probe.shape[-1]
    inner = slice(side // 4, side // 4 + side // 2)
    small = np.zeros_like(probe)
    small[..., inner, inner] = probe[..., ::2, ::2]
    return small


def write_first_probe(path: Path, settings: SimulateSettings, spoil: Spoil) -> None:
    """Write the probe that the beamline believes it has, spoiled, as a result file."""
    optics = settings.optics
    believed_m = optics.defocus_m * (1 + optics.defocus_error)
    other = optics.model_copy(update={"defocus_m": believed_m})
    truth = build(settings.model_copy(update={"optics": other})).truth
    probe = spoil(truth.probe).astype(np.complex64)
    empty = np.ones((1, *probe.shape[-2:]), np.complex64)
    write_result(path, Result(empty, probe, truth.pixel_m, truth.origin_m))
