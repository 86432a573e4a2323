"""What can be set of each engine; the defaults are the publications', or said so.

What several engines inherit is described in its type: docstrings are not inherited.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le
from pydantic import Field

Noise = Literal["exact", "gaussian", "poisson"]
"""How APG sees the data; ``exact`` is the modulus projection."""
Share = Annotated[float, Ge(0), Le(1)]
Weight = Annotated[float, Ge(0)]
Positive = Annotated[float, Gt(0)]
Count = Annotated[int, Gt(0)]
ProbeFrom = Annotated[
    Annotated[int, Ge(0)] | None,
    Field(
        description="The sweep, from 0, at which the probe begins to change; none: "
        "never."
    ),
]
Ceiling = Annotated[
    Positive | None,
    Field(
        description="The object's amplitude is clipped to this after each sweep; none: "
        "it is free."
    ),
]
Batch = Annotated[
    Count,
    Field(
        description="Patterns in flight at once, which bounds the memory; for AD, "
        "those of a step."
    ),
]
Seed = Annotated[int, Field(description="Of the order in which patterns are taken.")]
Group = Annotated[
    Count,
    Field(
        description="Patterns that do not overlap, taken at once: for the object the "
        "same as one after the other; the probe gets the mean of their steps. 1: as "
        "published."
    ),
]
Inner = Annotated[
    Count,
    Field(
        description="Alternations of object and probe that make one projection; on 400 "
        "patterns one gave more per second than 3 or 10."
    ),
]
Inertia = Annotated[
    Weight,
    Field(
        description="Share of the brightest pixel's light that holds each pixel of the "
        "object back: 0 as published; more keeps faintly lit edges from growing."
    ),
]

CLOSED = {"extra": "forbid", "use_attribute_docstrings": True}
"""An unknown key is an error, and each key's docstring is its help."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What all engines have."""

    __pydantic_config__ = CLOSED

    probe_from: ProbeFrom = 0
    ceiling: Ceiling = None
    batch: Batch = 64
    seed: Seed = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SequentialOptions(Options):
    """What ePIE, rPIE and WASP have."""

    __pydantic_config__ = CLOSED

    group: Group = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class EpieOptions(SequentialOptions):
    """ePIE (Maiden and Rodenburg 2009)."""

    __pydantic_config__ = CLOSED

    object_step: Weight = 1.0
    """α: the object's step over that which would fit its brightest pixel (there 1)."""
    probe_step: Weight = 1.0
    """β: as α, the probe's (there 1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RpieOptions(SequentialOptions):
    """rPIE (Maiden, Johnson and Li 2017); the defaults are our choice."""

    __pydantic_config__ = CLOSED

    object_alpha: Share = 0.1
    """α: the share of max|P|² in what the object's step is divided by; 1 is ePIE,
    smaller ones step further where the light is faint."""
    probe_alpha: Share = 1.0
    """β: as α, of max|O|² for the probe."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WaspOptions(SequentialOptions):
    """WASP (Maiden, Mei and Li 2024); the values that its authors' program takes."""

    __pydantic_config__ = CLOSED

    object_alpha: Weight = 2.0
    """α: mean|P|² times this is added to what the object's step is divided by."""
    probe_beta: Weight = 1.0
    """β: added to |O|² in what the probe's step is divided by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectionOptions(Options):
    """What the overlap projection of DM, RAAR and APG has."""

    __pydantic_config__ = CLOSED

    inner: Inner = 1
    inertia: Inertia = 1e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class DmOptions(ProjectionOptions):
    """Difference map (Thibault et al. 2009, with its β of 1)."""

    __pydantic_config__ = CLOSED

    alpha: Share = 1.0
    """How far ψ is reflected at the overlap before it is measured: 1 as published; 0
    takes the overlap's waves as they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RaarOptions(ProjectionOptions):
    """RAAR (Luke 2005)."""

    __pydantic_config__ = CLOSED

    beta: Share = 0.75
    """β: smaller is more stable, nearer to the measured waves alone; 1 is the
    difference map."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApgOptions(ProjectionOptions):
    """APG (Yan 2020; Parikh and Boyd 2014)."""

    __pydantic_config__ = CLOSED

    step: Share = 1.0
    """λ: the step down the overlap's misfit; 1 goes all the way."""
    momentum: bool = True
    """Accelerate by ω = i/(i + 3) of sweep i; False: a plain proximal gradient."""
    noise: Noise = "poisson"
    """The likelihood: of photon counts; of Gaussian amplitudes; or exact, which is the
    modulus projection."""
    weight: Weight = 1.0
    """The likelihood's, against a unit of squared distance in amplitude: the larger,
    the nearer to the modulus projection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdOptions(Options):
    """AD: pixels with Adam (Kandel et al. 2019); the rates are our choice.

    They stay: near a clean solution Adam bursts now and then (error 10⁻⁹ to 10⁻⁵,
    measured).
    """

    __pydantic_config__ = CLOSED

    object_rate: Weight = 1e-2
    """Adam's rate for the object's real and imaginary part."""
    probe_rate: Weight = 1e-2
    """Adam's rate for the probe, in units of its largest amplitude."""
    beta_mean: Annotated[float, Ge(0), Le(0.9999)] = 0.9
    """Adam's decay of the gradient's mean."""
    beta_square: Annotated[float, Ge(0), Le(0.9999)] = 0.999
    """Adam's decay of the gradient's mean square."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassicalOptions:
    """What ``reconstruct --engine`` takes, engine by engine."""

    __pydantic_config__ = CLOSED

    epie: EpieOptions = EpieOptions()
    """Extended ptychographic iterative engine."""
    rpie: RpieOptions = RpieOptions()
    """Regularised ptychographic iterative engine."""
    dm: DmOptions = DmOptions()
    """Difference map."""
    raar: RaarOptions = RaarOptions()
    """Relaxed averaged alternating reflections."""
    wasp: WaspOptions = WaspOptions()
    """Weighted average of sequential projections."""
    apg: ApgOptions = ApgOptions()
    """Accelerated proximal gradient."""
    ad: AdOptions = AdOptions()
    """Pixels with Adam."""
