"""What can be set of a reconstruction: frozen values; the configuration checks."""

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le

Share = Annotated[float, Ge(0), Le(1)]
Positive = Annotated[float, Gt(0)]
Count = Annotated[int, Gt(0)]

CLOSED = {"extra": "forbid", "use_attribute_docstrings": True}
"""An unknown key is an error, and each key's docstring is its help."""


@dataclass(frozen=True, slots=True)
class ObjectOptions:
    """The object's field."""

    __pydantic_config__ = CLOSED

    field: Literal["pixels", "siren", "multires"] = "pixels"
    """``pixels``: dense scans; ``siren``: few frames; ``multires``: in between."""
    slices: Count = 1
    """Slices along the beam."""
    levels: Count = 6
    """multires: grids of 1, 2, 4 … pixels."""
    features: Count = 4
    """multires: features a node."""
    width: Count = 64
    """siren, multires: units of a hidden layer (PtyINR: 512)."""
    hidden: Count = 3
    """siren: hidden layers after the first (PtyINR: 3)."""
    omega0: Positive = 30.0
    """siren: frequency of the first layer."""
    scale_px: Positive = 120.0
    """siren: object pixels to one unit of its coordinate."""


@dataclass(frozen=True, slots=True)
class ProbeOptions:
    """The probe's field, and when it may learn."""

    __pydantic_config__ = CLOSED

    field: Literal["pixels", "hashgrid"] = "pixels"
    """``pixels``, or PtyINR's ``hashgrid``."""
    modes: Count = 1
    """Incoherent modes."""
    known: bool = False
    """True: the first probe is taken as it is, and never learned."""
    release: Annotated[float, Ge(0)] = 0.25
    """The probe is held until the scan is this wide both ways, in patterns."""


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How the engine learns."""

    __pydantic_config__ = CLOSED

    batch: Count = 64
    """Exposures a step."""
    beta: Positive = 1.0
    """Smooth-L1's turning point, in units of the root-mean-square amplitude."""
    reach: Annotated[float, Gt(0)] | None = None
    """How far from its centre a batch may lie, in patterns; none: 3 for pixels, 1/3
    for networks."""
    object_rate: Positive = 0.3
    """Pixels: step in units of the one that would fit the batch alone."""
    momentum: Share = 0.8
    """Pixels: how much of the last step is taken again."""
    settling: Positive = 20.0
    """Pixels: a pixel's rate falls as the root of its updates over this."""
    damping: Positive = 0.05
    """Light that every pixel is taken to have, in units of the brightest."""
    net_rate: Positive = 3e-3
    """multires, hashgrid: Adam's rate for the network (a tenth for the probe's)."""
    siren_rate: Positive = 5e-4
    """siren: Adam's rate."""
    grid_rate: Positive = 2e-2
    """Feature grids: Adam's rate."""
    probe_rate: Positive = 0.5
    """Probe of pixels: as ``object_rate``."""
    store: Count = 4096
    """Exposures kept on the device."""
    held_out: Share = 0.05
    """Share of the exposures never trained on, by index: the honest quality."""
    seed: int = 0
    """Of sampling and of the networks' first weights."""
    threads: Annotated[int, Ge(0)] = 0
    """Cores for training; 0: all of them offline, all but one live."""
    device: str = "auto"
    """``auto``, ``cpu``, ``cuda`` or ``cuda:1``."""


@dataclass(frozen=True, slots=True)
class ReconOptions:
    """A reconstruction."""

    __pydantic_config__ = CLOSED

    object: ObjectOptions = ObjectOptions()
    probe: ProbeOptions = ProbeOptions()
    engine: EngineOptions = EngineOptions()
