"""What the engine shows of itself: plain numpy, safe to hand to another thread."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from ptystream.recon.findings import Finding
from ptystream.recon.metrics import Frc

Rung = Literal["stxm", "reconstruction"]
"""What a picture is: transmission and integrated differential phase contrast, as wide
as the probe, from the first exposures; or the reconstruction."""


@dataclass(frozen=True, slots=True)
class Quality:
    """How good the reconstruction is; NaN where not known yet.

    ``held_out_error`` is Σ(a - A)² / ΣA² over frames never trained on, with a
    the predicted and A the measured amplitude. ``flat_error`` is the same for
    an empty object under the same probe: what no reconstruction should exceed.
    ``noise_error`` is what photon noise alone would leave, if counts are photons.
    ``held_out_nll`` is the Poisson deviance per detector pixel of those frames.
    ``covered`` is the share of the scanned bounding box with enough dose.
    ``resolution_m`` is half a period of the finest detail that two halves of the data
    agree on (``quality.halves``), by half-bit Fourier ring correlation. ``converged``:
    the error has stopped falling, and no area has been added since.
    """

    loss: float = float("nan")
    held_out_error: float = float("nan")
    flat_error: float = float("nan")
    noise_error: float = float("nan")
    held_out_nll: float = float("nan")
    covered: float = 0.0
    probe_released: bool = False
    resolution_m: float = float("nan")
    converged: bool = False


@dataclass(frozen=True, slots=True)
class Latest:
    """The newest exposure and its prediction, both in photons, float32 ``[K, K]``.

    ``index`` is its trigger's, ``position_m`` (y, x) where it was taken.
    """

    index: int
    position_m: tuple[float, float]
    measured: np.ndarray
    predicted: np.ndarray


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The reconstruction at one step.

    ``object`` is complex64 ``[slices, H, W]``, ``probe`` complex64
    ``[modes, K, K]``, ``coverage`` float32 ``[H, W]`` (illumination summed over
    the exposures seen, 1 = one probe's peak). ``origin_m`` is the physical
    (y, x) of the centre of object pixel [0, 0]; ``pixel_m`` its size (y, x).
    ``positions_m`` ``[n, 2]`` (y, x) are the exposures that the store holds.
    ``confidence`` float32 ``[H, W]`` in 0..1 is what ``recon.confidence`` makes of each
    pixel's expected error; None where that is not known. ``frc`` is the curve
    behind ``quality.resolution_m``. ``rung`` says what the picture is, ``first_probe``
    whose probe the reconstruction began with. ``health`` names what is wrong between
    data and configuration, as far as is known.
    """

    object: np.ndarray
    probe: np.ndarray
    coverage: np.ndarray
    origin_m: tuple[float, float]
    pixel_m: tuple[float, float]
    positions_m: np.ndarray
    step: int
    exposures: int
    rolled_back: int = 0
    quality: Quality = field(default_factory=Quality)
    latest: Latest | None = None
    confidence: np.ndarray | None = None
    frc: Frc | None = None
    health: tuple[Finding, ...] = ()
    rung: Rung = "reconstruction"
    first_probe: str = ""
