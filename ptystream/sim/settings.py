"""What a simulated beamline can be told: frozen, closed, every number with its unit."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from ptystream.errors import ConfigError
from ptystream.sim.noise import NoiseName
from ptystream.sim.optics_settings import (
    AnyOptics,
    ElectronSettings,
    ZonePlateSettings,
)
from ptystream.sim.presets import TABLE
from ptystream.sim.quantities import Count, Finite, Group, NotNegative, Positive
from ptystream.sim.sample_settings import AnySample, PictureSettings


class ScanSettings(Group):
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
    shake_px: NotNegative = 0.0
    """Each point is moved by up to so many object pixels either way, on purpose: a
    raster's regularity leaves its mark on the object."""
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


class DetectorSettings(Group):
    """The pixel detector."""

    size_px: Annotated[int, Field(ge=16, le=1024, multiple_of=2)] = 64
    """Side of its square patterns, in pixels."""
    pixel_m: Positive = 75e-6
    """Pixel size, in metres."""
    distance_m: Positive = 1.0
    """From the specimen, in metres."""
    pixel_rad: Positive | None = None
    """Angle that a pixel spans, in radians; replaces distance_m (a camera length)."""
    noise: NoiseName = "poisson"
    """poisson: of photons counted; scaled_poisson, gaussian, mixed: paper A's eq. 6
    to 8, negative intensities put to 0; or none at all."""
    alpha: Positive = 10.0
    """scaled_poisson, mixed: photons in the scan's brightest pixel (paper A: 10), to
    find which a scan is computed once more."""
    sigma_counts: NotNegative = 100.0
    """gaussian, mixed: standard deviation, in counts (paper A: 100)."""
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

    @property
    def camera_length_m(self) -> float:
        """Distance at which a pixel spans the angle it does."""
        if self.pixel_rad is None:
            return self.distance_m
        return self.pixel_m / self.pixel_rad


class EncoderSettings(Group):
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


class SimulateSettings(Group):
    """A beamline: specimen, optics, scan, detector, encoders."""

    sample: AnySample = PictureSettings()
    """The specimen; kind: pictures, nanoparticle or layers."""
    optics: AnyOptics = ZonePlateSettings()
    """Source and lens; kind: zone_plate or electrons."""
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

    @model_validator(mode="after")
    def _optics_see_sample(self) -> Self:
        atoms = not isinstance(self.sample, PictureSettings)
        if atoms and not isinstance(self.optics, ElectronSettings):
            raise ValueError(
                f"sample of {self.sample.kind}: expected optics.kind electrons"
            )
        return self


PRESETS = tuple(TABLE)
"""Names that ``preset`` knows."""


def preset(name: str, changes: Mapping[str, Any] | None = None) -> SimulateSettings:
    """Return the named settings with nested changes laid over them.

    Raises:
        ConfigError: no such preset, or a change that the settings refuse.
    """
    if name not in TABLE:
        raise ConfigError(f"preset {name!r}: expected one of {', '.join(PRESETS)}")
    try:
        return SimulateSettings.model_validate(_laid_over(TABLE[name], changes or {}))
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
