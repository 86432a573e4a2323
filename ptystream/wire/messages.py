"""The frozen messages that the stages exchange; each carries its own identity.

Points are ``(y, x)`` in metres. Nothing is ever counted by arrival: frames and
positions are joined by ``index``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

PLANCK_EV_M = 1.239841984e-6
"""Planck's constant times the speed of light, in eV·m: wavelength = this / energy."""

EndReason = Literal["complete", "aborted", "timed out", "overrun", "error"]


@dataclass(frozen=True, slots=True)
class Geometry:
    """What turns detector pixels into object pixels.

    ``origins`` names where each value came from: stream, file, config, default.
    """

    wavelength_m: float
    distance_m: float
    detector_pixel_m: tuple[float, float]
    origins: Mapping[str, str] = field(default_factory=dict)

    def object_pixel_m(self, shape: tuple[int, int]) -> tuple[float, float]:
        """Return the far-field object pixel (y, x) for patterns of this shape."""
        extent = self.wavelength_m * self.distance_m
        return (
            extent / (shape[0] * self.detector_pixel_m[0]),
            extent / (shape[1] * self.detector_pixel_m[1]),
        )


@dataclass(frozen=True, slots=True)
class ScanStart:
    """A stream begins (or, with ``again``, reminds late joiners that it has begun)."""

    scan: str
    stream: Literal["det", "pos"]
    shape: tuple[int, int] | None = None
    dtype: str | None = None
    frames_expected: int | None = None
    geometry: Geometry | None = None
    dwell_s: float | None = None
    again: bool = False
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Frame:
    """One diffraction pattern, zero frequency in the centre.

    ``index`` is the trigger index, from 0: the join key. ``counts`` is ``[h, w]``
    uint8, uint16 or uint32; the largest value of its type, and the one below, mark
    pixels that can't be believed: dead, saturated. Exposure times are the detector's
    own clock; ``arrived_s`` is this machine's monotonic clock.
    """

    scan: str
    index: int
    counts: np.ndarray
    start_ns: int = 0
    stop_ns: int = 0
    arrived_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Samples:
    """A batch of encoder rows.

    ``first`` is the number of the first sample; sample ``s`` belongs to the
    exposure ``s // per_frame``. ``position_m`` is ``[n, 2]`` float64 (y, x); where the
    encoders tell, ``start_m`` and ``end_m`` are where each sample began and ended.
    ``monitor`` ``[n]`` is the beam's strength, in any unit.
    """

    scan: str
    first: int
    per_frame: int
    position_m: np.ndarray
    arrived_s: float = 0.0
    start_m: np.ndarray | None = None
    end_m: np.ndarray | None = None
    monitor: np.ndarray | None = None


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A stream is alive though it has nothing to say."""

    scan: str
    stream: Literal["det", "pos"]


@dataclass(frozen=True, slots=True)
class ScanEnd:
    """A stream ends.

    ``sent`` is what the sender claims to have sent: frames, or samples.
    """

    scan: str
    stream: Literal["det", "pos"]
    reason: EndReason
    sent: int | None = None


@dataclass(frozen=True, slots=True)
class Calibration:
    """A detector's own array for a scan, for pre-processing; it goes no further.

    ``array`` is ``[h, w]`` as the frames are: ``pixel_mask`` uint32, 0 for a good
    pixel; ``flatfield`` float32, the factor of each pixel.
    """

    scan: str
    name: Literal["pixel_mask", "flatfield"]
    array: np.ndarray


@dataclass(frozen=True, slots=True)
class Exposure:
    """A frame that knows where it was taken.

    ``start_m``, ``mean_m`` and ``end_m`` are (y, x): where the exposure began,
    its centre of gravity, and where it ended. ``monitor`` is the beam's strength during
    it, in any unit; NaN where nothing tells.
    """

    frame: Frame
    start_m: tuple[float, float]
    mean_m: tuple[float, float]
    end_m: tuple[float, float]
    monitor: float = float("nan")


Message = ScanStart | Frame | Samples | Heartbeat | ScanEnd
