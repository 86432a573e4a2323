"""What a simulated beamline can be told: frozen, closed, every number with its unit."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ptystream.errors import ConfigError

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(gt=0)]


class _Settings(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True
    )


class SampleSettings(_Settings):
    """The specimen."""

    name: str = "simulated"
    """What the scan's metadata calls it."""
    amplitude_picture: str = "cells"
    """cells, star, circuit, particles, or an image file (PNG, NPY)."""
    phase_picture: str = "circuit"
    """The same choice, for the phase."""
    amplitude: tuple[NotNegative, NotNegative] = (0.6, 1.0)
    """Transmitted amplitude where the picture is 0, and where it is 1."""
    phase_rad: tuple[Finite, Finite] = (0.0, 1.0)
    """Phase where the picture is 0, and where it is 1, in radians."""
    margin_px: Annotated[int, Field(ge=4)] = 8
    """Object pixels beyond the outermost illuminated windows."""


class OpticsSettings(_Settings):
    """Source and zone plate."""

    energy_ev: Positive = 10_000.0
    """Photon energy, in eV."""
    zone_plate_diameter_m: Positive = 150e-6
    """Diameter of the zone plate, in metres."""
    outer_zone_m: Positive = 50e-9
    """Width of its outermost zone, in metres."""
    stop_m: NotNegative = 50e-6
    """Diameter of the central stop, in metres; 0 for none."""
    defocus_m: Finite = 150e-6
    """How far downstream of the focus the specimen truly stands, in metres."""
    defocus_error: Finite = 0.2
    """By what share the defocus on the wire is larger than the true one."""
    photons_per_frame: Positive = 1e6
    """Photons on the specimen in one exposure."""
    mode_powers: Annotated[tuple[Positive, ...], Field(min_length=1, max_length=10)] = (
        1.0,
    )
    """Share of the power in each mode of the probe."""

    @model_validator(mode="after")
    def _stop_fits(self) -> Self:
        if self.stop_m >= self.zone_plate_diameter_m:
            raise ValueError("stop_m: expected less than zone_plate_diameter_m")
        return self


class ScanSettings(_Settings):
    """The stage's way, and its pace."""

    pattern: Literal["raster", "fermat"] = "raster"
    """Lines along x, or a Fermat spiral of the same density and number of points."""
    shape: tuple[Count, Count] = (60, 60)
    """Lines, and exposures a line; a spiral takes their product."""
    overlap: Annotated[float, Field(ge=0, lt=1)] = 0.95
    """1 - step / window; gives a step of whole object pixels."""
    step_m: Positive | None = None
    """Step in metres, instead of the overlap."""
    snake: bool = True
    """Every second line runs backwards; else the stage flies back."""
    jitter_m: NotNegative = 5e-9
    """The stage's rms error per axis, in metres; the encoders see it."""
    centre_m: tuple[Finite, Finite] = (5e-6, -3e-6)
    """Centre (y, x) of the scan, in metres."""
    rate_hz: Positive = 100.0
    """Exposures a second within a line."""
    line_pause_s: NotNegative = 0.1
    """Turn-around after each line, in seconds."""
    blur_points: Annotated[int, Field(gt=0, le=64)] = 1
    """Points along the motion that an exposure averages; 1: the stage stands still."""
    scans: Count = 1
    """Scans one after another, of the same specimen."""
    gap_s: NotNegative = 2.0
    """Pause between scans, in seconds."""


class DetectorSettings(_Settings):
    """The pixel detector."""

    size_px: Annotated[int, Field(ge=16, le=1024, multiple_of=2)] = 64
    """Side of its square patterns, in pixels."""
    pixel_m: Positive = 75e-6
    """Pixel size, in metres."""
    distance_m: Positive = 1.0
    """From the specimen, in metres."""
    noise: Literal["poisson", "none"] = "poisson"
    """Photon noise, or none at all."""
    readout_counts: NotNegative = 0.0
    """Read-out noise, rms, in counts."""
    dtype: Literal["uint16", "uint32"] = "uint16"
    """Type of the counts."""
    saturation: Count | None = None
    """Counts at which a pixel is full; two below the type's maximum if not given."""
    address: str = "tcp://127.0.0.1:5601"
    """Where the detector binds; port 0 takes a free one."""
    encoding: Literal["raw", "lz4", "bslz4"] = "bslz4"
    """Compression of the frames."""
    ahead_frames: Annotated[int, Field(ge=64)] = 10_000
    """Frames computed before the scan starts, and kept ahead of the pace after."""


class EncoderSettings(_Settings):
    """The box that reads the stage's encoders."""

    per_frame: Annotated[int, Field(gt=0, le=1000)] = 10
    """Samples in each exposure."""
    batch_samples: Annotated[int, Field(gt=0, le=100_000)] = 41
    """Samples in each message; needs no relation to per_frame."""
    lag_s: NotNegative = 0.2
    """From a batch's last sample to its message, in seconds."""
    noise_m: NotNegative = 1e-9
    """Rms error of one sample, per axis, in metres."""
    address: str = "tcp://127.0.0.1:5602"
    """Where the encoder box binds; port 0 takes a free one."""


class SimulateSettings(_Settings):
    """A beamline: specimen, optics, scan, detector, encoders."""

    sample: SampleSettings = SampleSettings()
    optics: OpticsSettings = OpticsSettings()
    scan: ScanSettings = ScanSettings()
    detector: DetectorSettings = DetectorSettings()
    encoder: EncoderSettings = EncoderSettings()
    pattern: Literal["pub", "push"] = "pub"
    """ZMQ socket of both senders."""
    wait_s: NotNegative = 30.0
    """How long to wait for readers of both streams before the first scan, in s."""
    stop_after: Count | None = None
    """Frames after which each scan ends short; all of them if not given."""
    ending: Literal["complete", "aborted", "quiet"] = "complete"
    """What ends a scan: its normal end, an abort, or silence as from a dead sender."""
    seed: Annotated[int, Field(ge=0)] = 1
    """Same seed, same specimen, stage errors and noise."""


_PRESETS: Mapping[str, Mapping[str, Any]] = {
    "dense": {},
    # Twice the defocus: a probe of 10 px would leave dark gaps between steps of 32.
    "half": {
        "optics": {"defocus_m": 300e-6},
        "scan": {"shape": (8, 8), "overlap": 0.5, "rate_hz": 20.0},
    },
    "sparse": {
        "optics": {"defocus_m": 300e-6},
        "scan": {"shape": (6, 6), "overlap": 0.3, "rate_hz": 20.0},
    },
    # 2,500 frames in 25 s, and 49 turn-arounds of 0.08 s: 29 s.
    "demo": {"scan": {"shape": (50, 50), "overlap": 0.9375, "line_pause_s": 0.08}},
    "low-dose": {
        "optics": {"photons_per_frame": 1e4},
        "scan": {"shape": (20, 20), "overlap": 0.85, "rate_hz": 40.0},
    },
}
PRESETS = tuple(_PRESETS)
"""Names that ``preset`` knows."""


def preset(name: str, changes: Mapping[str, Any] | None = None) -> SimulateSettings:
    """Return the named settings with nested changes laid over them.

    Raises:
        ConfigError: no such preset, or a change that the settings refuse.
    """
    if name not in _PRESETS:
        raise ConfigError(f"preset {name!r}: expected one of {', '.join(PRESETS)}")
    try:
        return SimulateSettings.model_validate(
            _laid_over(_PRESETS[name], changes or {})
        )
    except ValidationError as e:
        raise ConfigError(f"simulate: {e}") from e


def _laid_over(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        below = merged.get(key)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            value = _laid_over(below, value)
        merged[key] = value
    return merged
