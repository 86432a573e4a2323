"""What can be set, for each engine; the defaults are the publications', or said so."""

from dataclasses import dataclass
from typing import Literal

Noise = Literal["exact", "gaussian", "poisson"]
"""How APG sees the data; ``exact`` is the modulus projection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What all engines have.

    ``probe_from`` is the sweep, from 0, at which the probe begins to change (None:
    never). ``ceiling`` clips the object's amplitude after each sweep (None: not).
    ``batch`` patterns are in flight at once, which bounds the memory.
    """

    probe_from: int | None = 0
    ceiling: float | None = None
    batch: int = 64
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SequentialOptions(Options):
    """What ePIE, rPIE and WASP take.

    ``group`` patterns that do not overlap are taken at once: for the object the same
    as one after the other; the probe gets the mean of their steps.
    """

    group: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class EpieOptions(SequentialOptions):
    """ePIE: both steps 1, as Maiden and Rodenburg 2009 (there α and β)."""

    object_step: float = 1.0
    probe_step: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RpieOptions(SequentialOptions):
    """rPIE: α and β of Maiden, Johnson and Li 2017, in 0…1; 1 is ePIE.

    Smaller ones step further where the light is faint. These values are our choice.
    """

    object_alpha: float = 0.1
    probe_alpha: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WaspOptions(SequentialOptions):
    """WASP: 2 and 1 are the values that the authors' own program recommends."""

    object_alpha: float = 2.0
    probe_beta: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectionOptions(Options):
    """What the overlap projection of DM, RAAR and APG takes.

    ``inner`` alternations of object and probe make one projection; on 400 patterns one
    gave more per second than 3 or 10. ``inertia`` is the share of the brightest pixel's
    light that holds each pixel of the object back: 0 as published; more keeps faintly
    lit edges from growing.
    """

    inner: int = 1
    inertia: float = 1e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class DmOptions(ProjectionOptions):
    """Difference map: β = 1, as Thibault et al. 2009."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RaarOptions(ProjectionOptions):
    """RAAR: β in 0…1 (Luke 2005); smaller is more stable, nearer to alternation."""

    beta: float = 0.75


@dataclass(frozen=True, slots=True, kw_only=True)
class ApgOptions(ProjectionOptions):
    """APG: ``step`` λ in 0…1 down the overlap's misfit, ``weight`` of the likelihood.

    The likelihood is held against a unit of squared distance in amplitude: the larger
    its weight, the nearer to the modulus projection.
    """

    step: float = 1.0
    noise: Noise = "poisson"
    weight: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AdOptions(Options):
    """AD: Adam's rates, as a share of the object's 1 and of the probe's peak.

    ``batch`` is also how many patterns make a step. The rates are our choice, and stay:
    near a clean solution Adam bursts now and then (error 10⁻⁹ to 10⁻⁵, measured).
    """

    object_rate: float = 1e-2
    probe_rate: float = 1e-2
