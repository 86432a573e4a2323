"""What can be set of a reconstruction: frozen values; the configuration checks."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le

from ptystream.recon.option_types import (
    CLOSED,
    Count,
    Depth,
    Positive,
    Share,
    Steps,
    Weight,
)
from ptystream.recon.options_health import HealthOptions
from ptystream.recon.options_quality import QualityOptions
from ptystream.recon.options_start import StartOptions


@dataclass(frozen=True, slots=True)
class ObjectOptions:
    """The object's field."""

    __pydantic_config__ = CLOSED

    field: Literal[
        "auto", "smooth", "pixels", "siren", "multires", "hashgrid", "unet"
    ] = "auto"
    """``smooth``: pixels under a Sobolev metric, for few frames or photons; ``pixels``:
    plain ones, for dense scans; ``auto``: smooth first, and plain as soon as they
    predict held-out frames better. Networks: ``siren``, ``multires``, ``unet`` (a deep
    generative prior), ``hashgrid`` (PtyINR's ablation)."""
    length_px: Positive = 8.0
    """smooth: length over which neighbours are alike, in object pixels: the object's
    logarithm has the covariance e^(-r/length)."""
    contest_steps: Count = 10
    """auto: steps after which plain pixels are first tried, and for how long; then at
    twice as many, and so on."""
    slices: Count = 1
    """Slices along the beam; more than one need ``physics.slice_m``."""
    warmup_steps: Steps | None = None
    """Steps with pixels before a network takes over, for object and probe alike; it
    is taught meanwhile. None: 200 for an object of ``unet``, else 0."""
    pretrain_steps: Steps = 100
    """The last steps of the warm-up, in which the network learns the pixels as they
    stand (paper B: 50, as an auto-encoder)."""
    identical_steps: Steps = 0
    """First steps in which all slices are kept the same, the warm-up's among them
    (paper B: 50 passes of the network)."""
    amplitude_max: Positive | None = None
    """The object's amplitude is clamped to 0 … this (paper B's code: 1); none: it is
    free."""
    constraints: Literal["forward", "shown"] = "forward"
    """Networks: clamp and identical slices hold before the forward model
    (paper B's text), or only in what is shown and judged (its code)."""
    levels: Count = 6
    """multires: grids of 1, 2, 4 … pixels."""
    features: Count = 4
    """multires: features a node."""
    width: Count = 64
    """siren, multires: units of a hidden layer (PtyINR: 512)."""
    hidden: Count = 3
    """siren: hidden layers after the first (PtyINR: 3)."""
    omega0: Positive = 30.0
    """siren: frequency of the first layer, in radians to a unit of its coordinate
    (PtyINR: 30 where frames are few or noisy, 90 where many; 300 shows artefacts)."""
    omega_hidden: Positive = 30.0
    """siren: frequency of the other layers (PtyINR: 30)."""
    scaled_bias: bool = False
    """siren: False: sin(ωWx + b), PtyINR's text; True: sin(ω(Wx + b)), its code."""
    coordinates: Literal["pixels", "unit", "signed"] = "pixels"
    """siren: in units of ``scale_px``, so that a scan may grow; or [0, 1] over the scan
    (PtyINR's text); or [-1, 1] (its code). The last two need the whole scan at the
    first step, as offline. hashgrid: ``pixels`` is ``unit``."""
    scale_px: Positive = 120.0
    """siren: object pixels to one unit of its coordinate, where these are pixels."""
    absolute: bool = False
    """siren, hashgrid: the amplitude is the net's absolute output (PtyINR's code); the
    text's may be negative."""
    flat: float = 1.0
    """siren, hashgrid: added to the amplitude; 1 starts near an empty object, 0 as
    PtyINR."""
    depth: Depth = 3
    """unet: times that it halves the size (paper B: 2, 3 and 4)."""
    filters: Count = 16
    """unet: channels before the first halving (paper B: 16)."""
    activation: Literal["relu", "modrelu", "phaserelu"] = "relu"
    """unet: ReLU of real and imaginary part (paper B); of the amplitude, with a learned
    threshold; or |z| cos² of the phase (both are choices of its code)."""
    norm_first: bool = False
    """unet: normalise before the activation, not after it (paper B's code: after)."""
    noise: Weight = 0.025
    """unet: root mean square of the fresh noise on its input (paper B: 0.025)."""
    whole: bool = True
    """unet: makes the whole object each step (paper B); else the batch's window, with
    a margin on which its pixels depend: dearer for small objects, bounded for large."""


@dataclass(frozen=True, slots=True)
class ProbeOptions:
    """The probe's field, and when it may learn."""

    __pydantic_config__ = CLOSED

    field: Literal["pixels", "hashgrid", "unet"] = "pixels"
    """``pixels``, PtyINR's ``hashgrid``, or paper B's complex ``unet``."""
    modes: Count = 1
    """Incoherent modes."""
    pretrain_steps: Steps = 100
    """Steps that teach a network the first probe, or that of the warm-up; 0 leaves it
    at its own random start (PtyINR's code). 100 bring a hash grid within 10⁻³ of the
    probe's power, at 70 ms each of one core at 64²."""
    orthogonal_steps: Steps = 0
    """Modes are made orthogonal every so many steps, networks' in each; 0: only in
    what is published. The patterns don't depend on it."""
    normalise: Literal["light", "maximum", "none"] = "light"
    """What is held while the probe learns: its total light; its largest amplitude
    (PtyINR), of which the object, or ``nuisance.scale``, takes up the difference; or
    nothing (PtyINR's ablation)."""
    orthogonal_by: Literal["eigenvectors", "gram_schmidt"] = "eigenvectors"
    """How modes are made orthogonal: by a mixing on which the patterns don't depend; or
    each keeps its light, and they change (paper B's code)."""
    constraints: Literal["forward", "shown"] = "forward"
    """Networks: orthogonality holds before the forward model (paper B's text), or only
    in what is shown and judged (its code)."""
    recentre: bool = False
    """Networks: all modes are rolled until the brightest pixel is in the centre
    (PtyINR's code; its text says nothing)."""
    signed: bool = False
    """hashgrid: coordinates in [-1, 1] (PtyINR's code), not [0, 1] (its text)."""
    absolute: bool = False
    """hashgrid: as ``object.absolute``."""
    depth: Depth = 3
    """unet: times that it halves the size."""
    filters: Count = 16
    """unet: channels before the first halving."""
    activation: Literal["relu", "modrelu", "phaserelu"] = "relu"
    """unet: as ``object.activation``."""
    norm_first: bool = False
    """unet: as ``object.norm_first``."""
    noise: Weight = 0.025
    """unet: noise on its input, in units of the probe's root mean square."""
    aberrations: Annotated[int, Ge(0), Le(8)] = 4
    """pixels: smooth phases over the first probe's pupil that are learned first, up to
    this order: 2 is defocus and astigmatism, 3 coma, 4 spherical; 0: none."""
    aberration_rate_rad: Positive = 0.03
    """Adam's rate for each, in radians at the rim of the pupil."""
    aberration_steps: Steps = 300
    """Steps until that rate has fallen to 0."""
    patient: bool | None = None
    """Whether the probe's pixels wait for the first third of these steps where the
    frames hold twice as many values as the object has unknowns: better in the end,
    later in the beginning. None: in ``reconstruct`` they do, in a stream they don't."""
    known: bool = False
    """True: the first probe is taken as it is, and never learned."""
    release: Annotated[float, Ge(0)] = 0.25
    """The probe is held until the scan is this wide both ways, in patterns."""


@dataclass(frozen=True, slots=True)
class HashGridOptions:
    """A hash grid's shape, for probe and object alike; the defaults are PtyINR's."""

    __pydantic_config__ = CLOSED

    levels: Count = 16
    """Grids, from coarse to fine."""
    features: Count = 2
    """Features an entry."""
    table: Count = 2**15
    """Entries of a level at most; finer ones are hashed into so many."""
    base: Annotated[int, Ge(2)] = 16
    """Nodes along an edge of the coarsest grid."""
    growth: Annotated[float, Gt(1)] = 1.5
    """Nodes of a grid over those of the next coarser one."""
    width: Count = 64
    """Units of each of the two hidden layers."""
    output_scale: Positive = 100.0
    """Multiplies what the network gives (PtyINR's code: 10⁴, for rates of 10⁻⁵)."""


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How the engine learns."""

    __pydantic_config__ = CLOSED

    batch: Count = 64
    """Exposures a step."""
    beta: Positive = 1.0
    """Smooth-L1's turning point, in units of the root-mean-square amplitude."""
    reach: Annotated[float, Gt(0)] | None = None
    """How far from its centre a batch may lie, in patterns; none: 3 for pixels, smooth
    or plain, 1/3 for networks."""
    object_rate: Positive = 0.3
    """Pixels: step in units of the one that would fit the batch alone."""
    momentum: Share = 0.8
    """Pixels: how much of the last step is taken again."""
    settling: Positive = 20.0
    """Pixels: a pixel's rate falls as the root of its updates over this, as far as the
    held-out error is photon noise."""
    damping: Positive = 0.05
    """Light that every pixel is taken to have, in units of the brightest."""
    smooth_rate: Positive = 4e-3
    """smooth: Adam's rate of its coefficients."""
    smooth_settling: Positive = 100.0
    """smooth: a coefficient's rate falls as the root of its updates over this."""
    smooth_floor: Share = 0.05
    """smooth: coefficients with less than this share of the steepest slope learn more
    slowly: they lie in the dark."""
    smooth_decay: Weight = 0.3
    """smooth: slope that pulls a coefficient of 1 back to 0, in units of the
    root-mean-square slope: what lies in the dark stays empty."""
    net_rate: Positive = 3e-3
    """multires, hashgrid: Adam's rate for the network (a tenth for the probe's)."""
    siren_rate: Positive = 5e-4
    """siren: Adam's rate (PtyINR: 10⁻⁵ … 10⁻⁴)."""
    unet_rate: Positive = 1e-3
    """unet: Adam's rate (paper B's code: 10⁻⁴ … 10⁻³), a tenth for the probe's."""
    probe_net_rate: Positive | None = None
    """The probe's network: Adam's rate; none: a tenth of ``net_rate`` or ``unet_rate``
    (PtyINR: 10⁻⁵ … 10⁻⁴)."""
    phase_rate: Positive = 1.0
    """siren, hashgrid under ``adam`` published: the phase net's rate over that of the
    amplitude's (PtyINR: 1; its guide: at most 1)."""
    adam: Literal["quick", "published"] = "quick"
    """Networks: one rate a field and a short memory (β₂ 0.99); or torch's Adam (β₂
    0.999), one for each net, as both papers' code. Not for multires."""
    by_light: bool = True
    """Networks: the object's gradient is divided by the light that it was measured in;
    False: as it comes, as in both papers."""
    pretrain_rate: Positive | None = None
    """Adam's rate while a network is taught (paper B's code: 10⁻³); none: 3·10⁻³ for
    unet, 0.1/``output_scale`` for hashgrid, else its own."""
    grid_rate: Positive = 2e-2
    """Feature grids: Adam's rate."""
    probe_rate: Positive = 0.5
    """Probe of pixels: as ``object_rate``."""
    probe_settling: Positive = 2000.0
    """Probe of pixels: as ``settling``."""
    store: Count = 4096
    """Exposures kept on the device."""
    held_out: Share = 0.05
    """Share of the exposures never trained on, by index: the honest quality."""
    deterministic: bool = False
    """Offline: time is counted in steps, so that the same exposures and seed give the
    same object, bit for bit, on the same kind of machine."""
    seed: int = 0
    """Of sampling and of the networks' first weights."""
    threads: Annotated[int, Ge(0)] = 0
    """Cores for training; 0: all but one."""
    budget: Share = 1.0
    """serve: share of the time in which the engine learns while frames come; the rest
    is left to whatever else runs. After the last frame it learns all the time."""
    device: str = "auto"
    """``auto``, ``cpu``, ``cuda`` or ``cuda:1``."""


@dataclass(frozen=True, slots=True)
class PhysicsOptions:
    """From object and probe to the patterns, and what is minimised.

    Paper A is PtyINR, paper B the deep generative priors.

    The default (one slice, far field, no motion, smooth-L1, no background) has a
    hand-written gradient; all else takes automatic ones, several times slower.
    """

    __pydantic_config__ = CLOSED

    model: Literal["far", "near"] = "far"
    """Far field, or near field: full-field holograms, the pixel that of the detector
    over ``magnification``."""
    fresnel_number: Positive | None = None
    """near: pixel²/(wavelength · distance) of an object pixel; none: the geometry's."""
    magnification: Annotated[float, Ge(1)] = 1.0
    """near: that of a cone beam, (source to detector)/(source to sample)."""
    fly_points: Count = 1
    """Points on the way from start to end of each exposure at which its pattern is
    summed (PtyINR eq. 1); 1: the stage is taken to stand."""
    fly_rule: Literal["gauss", "midpoint"] = "gauss"
    """Places and weights of these points: Gauss-Legendre, or equal parts."""
    slice_m: Positive | None = None
    """Distance between neighbouring slices of the object, in metres."""
    kind: Literal["complex", "phase", "potential"] = "complex"
    """The object: amplitude and phase; phase alone; or a phase that is never negative,
    below π a slice for pixels."""
    loss: Literal["smooth_l1", "l1", "l2", "poisson"] = "smooth_l1"
    """Of amplitudes (PtyINR eq. 2; their absolute or squared difference), or of photon
    counts."""
    background: bool = False
    """Learn an incoherent background, the same in every pattern."""
    background_start: Share = 0.1
    """background: starts at this quantile of the first batch's mean pattern."""
    background_rate: Positive = 3e-3
    """background: Adam's rate for its root, in units of the root-mean-square
    amplitude."""
    tv_xy: Weight = 0.0
    """Weight of the total variation across the beam (paper B eq. 1), a mean over the
    voxels, beside the mean loss of a detector pixel at a mean intensity of 1. (Paper
    B's code weighs it beside the loss summed over all frames.)"""
    tv_z: Weight = 0.0
    """As ``tv_xy``, along the beam."""
    surface_zero: Weight = 0.0
    """Weight of the mean of the outer slices' departure from empty (paper B eq. 2)."""
    priors: Literal["text", "code"] = "text"
    """Total variation and surface-zero by paper B's equations; or as in its code: the
    mean along each axis over the number of axes with a weight, and no ½."""
    probe_penalty: Weight = 0.0
    """λ of the probe's mean amplitude (PtyINR eq. 2), the probe at a mean square of 1
    (PtyINR: 10⁻² of one with a maximum of 1)."""
    probe_penalty_steps: Steps = 50
    """The first k steps, in which ``probe_penalty`` counts (PtyINR: 50)."""
    saturated: Count | None = None
    """Counts from which a pixel of a frame is left out; none: all are believed."""


@dataclass(frozen=True, slots=True)
class NuisanceOptions:
    """What else the patterns depend on, frame by frame.

    What is a held-out frame's own is fitted; object, probe and affine never see it.
    """

    __pydantic_config__ = CLOSED

    positions: Literal["given", "frames", "affine", "both"] = "given"
    """Refine nothing; each frame's position; scale, rotation and shear of the whole
    scan; or both, with nothing told twice."""
    intensity: bool = False
    """Learn each frame's brightness; their mean stays."""
    scale: bool = False
    """Learn one factor on the light of all frames from the first step on: the data's
    scale, which the papers tune by hand. For a probe held by its maximum."""
    scale_rate: Positive = 0.05
    """Adam's rate for the logarithm of that factor."""
    after_steps: Steps = 100
    """Steps before positions and brightness move: the object must have a shape."""
    position_rate_px: Positive = 0.02
    """Adam's rate for positions, in object pixels; the affine's is this at the far end
    of the scan."""
    position_bound_px: Positive = 4.0
    """No position is moved further than this, in object pixels."""
    intensity_rate: Positive = 1e-2
    """Adam's rate for the logarithm of the brightness."""


@dataclass(frozen=True, slots=True)
class ReconOptions:
    """A reconstruction."""

    __pydantic_config__ = CLOSED

    object: ObjectOptions = ObjectOptions()
    probe: ProbeOptions = ProbeOptions()
    engine: EngineOptions = EngineOptions()
    physics: PhysicsOptions = PhysicsOptions()
    nuisance: NuisanceOptions = NuisanceOptions()
    hashgrid: HashGridOptions = HashGridOptions()
    quality: QualityOptions = field(default_factory=QualityOptions)
    start: StartOptions = field(default_factory=StartOptions)
    health: HealthOptions = field(default_factory=HealthOptions)
