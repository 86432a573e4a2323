"""Fields, learners and optics from options."""

import torch
from jaxtyping import Complex
from torch import Tensor

from ptystream.errors import ConfigError
from ptystream.models.field import Box, Field
from ptystream.models.pixels import Pixels
from ptystream.models.smooth import Smooth
from ptystream.physics.forward import Background, Detector, near_field
from ptystream.physics.propagate import angular_spectrum, far_field, fresnel
from ptystream.recon.aberrations import Aberrations
from ptystream.recon.background import BackgroundOptics
from ptystream.recon.handover import Pupil
from ptystream.recon.hold import Held, ObjectHold
from ptystream.recon.learners import (
    Learner,
    NeuralLearner,
    PixelLearner,
    at_unit_light,
)
from ptystream.recon.networks import (
    network_learner,
    object_network,
    probe_network,
    probe_normalisation,
)
from ptystream.recon.nuisance import Nuisance
from ptystream.recon.optics import FusedOptics, GeneralOptics, Optics, Way
from ptystream.recon.optim import TileAdam
from ptystream.recon.options import ReconOptions
from ptystream.recon.regularise import Prior
from ptystream.recon.setting import Setting

SMOOTH = ("auto", "smooth")
"""Objects that begin as smooth pixels."""
UNET_WARMUP = 200
"""Steps with pixels before a U-Net takes over, where nothing is said: without an
estimate as its input it has nothing to begin with."""
UNET_PRETRAIN_RATE = 3e-3
"""At paper B's 10⁻³ a U-Net is 4 to 10 times as far off after 100 steps as at this (60²
object)."""
HASH_PRETRAIN_RATE = 0.1
"""For a hash grid's outputs; over ``output_scale`` for its parameters."""


def pick_device(name: str) -> torch.device:
    """Return the device of a name; ``auto`` takes CUDA where there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def warmup_steps(options: ReconOptions) -> int:
    """Return how many steps pixels take before a network does."""
    if options.object.warmup_steps is not None:
        return options.object.warmup_steps
    return UNET_WARMUP if options.object.field == "unet" else 0


def object_hold(options: ReconOptions) -> ObjectHold:
    """Return the object's hard constraints."""
    o = options.object
    identical = o.slices > 1 and o.identical_steps > 0
    return ObjectHold(
        options.physics.kind, amplitude_max=o.amplitude_max, identical=identical
    )


def object_field(
    options: ReconOptions, device: torch.device, hold: ObjectHold | None = None
) -> Field:
    """Return an empty object; a network stands under the constraints."""
    o = options.object
    if o.field == "pixels":
        return object_pixels(options, device)
    if o.field in SMOOTH:
        smooth = Smooth(
            o.slices,
            kind=options.physics.kind,
            length_px=o.length_px,
            device=str(device),
        )
        return Held(smooth, hold or object_hold(options))
    return object_network(options, device, hold or object_hold(options))


def object_pixels(options: ReconOptions, device: torch.device) -> Pixels:
    """Return an empty object of pixels."""
    return Pixels(options.object.slices, device=str(device))


def object_learner(
    field: Field, options: ReconOptions, hold: ObjectHold | None = None
) -> Learner:
    """Return what teaches the object; pixels are put under the constraints here."""
    e = options.engine
    if isinstance(field, Pixels):
        hold = hold or object_hold(options)
        return PixelLearner(
            field,
            rate=e.object_rate,
            momentum=e.momentum,
            settling=e.settling,
            constraint=None if hold.idle else hold,
        )
    if options.object.field in SMOOTH:
        tiles = TileAdam(
            e.smooth_rate,
            settling=e.smooth_settling,
            floor=e.smooth_floor,
            decay=e.smooth_decay,
        )
        return NeuralLearner(field, net_rate=0.0, tiles=tiles, by_light=False)
    rates = {"siren": e.siren_rate, "unet": e.unet_rate}
    return network_learner(field, options, rates.get(options.object.field, e.net_rate))


def plain_learner(
    options: ReconOptions, device: torch.device, hold: ObjectHold
) -> Learner:
    """Return plain pixels that know nothing yet, with what teaches them."""
    return object_learner(object_pixels(options, device), options, hold)


def reach(options: ReconOptions, *, network: bool) -> float:
    """Return how far from its centre a batch may lie, in patterns.

    Networks cost what the window costs; pixels, smooth or plain, little more however
    far, and a U-Net that makes the whole object each time the same.
    """
    if options.engine.reach is not None:
        return options.engine.reach
    whole = options.object.field == "unet" and options.object.whole
    cheap = whole or not network or options.object.field in SMOOTH
    return 3.0 if cheap else 1 / 3


def probe_field(
    first: Complex[Tensor, "m k k"], options: ReconOptions, device: torch.device
) -> Field:
    """Return a probe that starts as ``first``, in the engine's gauge."""
    first = at_unit_light(first.to(device, torch.complex64))
    box = Box(0, 0, *first.shape[-2:])
    if options.probe.field == "pixels":
        return probe_pixels(first)
    pupil, pixels = probe_pupil(first, options), probe_pixels(first)
    pupil.show(pixels, box)
    for _ in range(options.probe.pretrain_steps):
        pupil.lesson(pixels, box)
    return pupil.graduate()


def probe_pixels(first: Complex[Tensor, "m k k"]) -> Pixels:
    """Return a probe of pixels."""
    pixels = Pixels(len(first), empty=0j, device=str(first.device))
    pixels.write(Box(0, 0, *first.shape[-2:]), first)
    return pixels


def object_pupil(
    options: ReconOptions, device: torch.device, hold: ObjectHold
) -> Pupil:
    """Return the object's network, to be taught while pixels learn."""
    return as_pupil(object_network(options, device, hold), options)


def as_pupil(network: Field, options: ReconOptions) -> Pupil:
    """Return the object's network as one that is taught; ValueError for pixels."""
    if not isinstance(network, Held):
        raise ValueError(f"{type(network).__name__} need no lessons: write to them")
    teacher = _teacher(network, options, options.object.field)
    teacher = teacher or object_learner(network, options)
    return Pupil(network, teacher, seed=options.engine.seed)


def probe_pupil(first: Complex[Tensor, "m k k"], options: ReconOptions) -> Pupil:
    """Return the probe's network, to be taught; ``first`` is at unit light."""
    network = probe_network(first, options)
    teacher = _teacher(network, options, options.probe.field)
    return Pupil(network, teacher or probe_learner(network, options, first))


def _teacher(network: Field, options: ReconOptions, field: str) -> Learner | None:
    """Return what teaches a network an estimate; None: what teaches it patterns."""
    rates = {
        "unet": UNET_PRETRAIN_RATE,
        "hashgrid": HASH_PRETRAIN_RATE / options.hashgrid.output_scale,
    }
    rate = options.engine.pretrain_rate or rates.get(field)
    return None if rate is None else network_learner(network, options, rate)


def probe_learner(
    field: Field, options: ReconOptions, first: Complex[Tensor, "m k k"]
) -> Learner:
    """Return what teaches the probe; ``first`` as for ``probe_network``."""
    e = options.engine
    if isinstance(field, Pixels):
        return PixelLearner(
            field,
            rate=e.probe_rate,
            momentum=e.momentum,
            constraint=probe_normalisation(first, options),
            settling=e.probe_settling,
            aberrations=_aberrations(first, options),
        )
    rate = 0.1 * (e.unet_rate if options.probe.field == "unet" else e.net_rate)
    return network_learner(field, options, e.probe_net_rate or rate)


def _aberrations(
    first: Complex[Tensor, "m k k"], options: ReconOptions
) -> Aberrations | None:
    """Return what turns the pupil of the first probe; None: nothing, as told."""
    p = options.probe
    if p.aberrations < 2 or not p.aberration_steps:
        return None
    return Aberrations(
        first,
        order=p.aberrations,
        rate_rad=p.aberration_rate_rad,
        steps=p.aberration_steps,
    )


def prior(options: ReconOptions) -> Prior:
    """Return the soft constraints."""
    p = options.physics
    return Prior(
        tv_xy=p.tv_xy,
        tv_z=p.tv_z,
        surface=p.surface_zero,
        probe=p.probe_penalty,
        probe_steps=p.probe_penalty_steps,
        phase_only=p.kind != "complex",
        published=p.priors == "code",
    )


def nuisance(options: ReconOptions, device: torch.device) -> Nuisance | None:
    """Return what is learned of each exposure; None for nothing."""
    n = options.nuisance
    if n.positions == "given" and not (n.intensity or n.scale):
        return None
    return Nuisance(n, options.engine.store, device)


def optics(
    options: ReconOptions,
    setting: Setting,
    device: torch.device,
    learned: Nuisance | None = None,
) -> Optics:
    """Return the experiment: by hand where it is the common one.

    Raises:
        ConfigError: a length that the experiment needs is not known.
    """
    p = options.physics
    plain = options.object.slices == 1 and p.model == "far" and p.fly_points == 1
    if plain and p.loss == "smooth_l1" and not p.background and learned is None:
        return FusedOptics(beta=options.engine.beta)
    way = Way(
        _between(options, setting, device),
        _detector(options, setting, device),
        p.fly_points,
        p.fly_rule,
    )
    told = {"loss": p.loss, "beta": options.engine.beta, "nuisance": learned}
    if not p.background:
        return GeneralOptics(way, **told)
    return BackgroundOptics(
        way,
        Background((setting.size, setting.size), start_counts=1e-4).to(device),
        quantile=p.background_start,
        background_rate=p.background_rate,
        **told,
    )


def _between(
    options: ReconOptions, setting: Setting, device: torch.device
) -> Complex[Tensor, "k k"] | None:
    """Return the kernel from slice to slice; None for a single one."""
    if options.object.slices == 1:
        return None
    distance_m, wavelength_m = options.physics.slice_m, setting.wavelength_m
    if distance_m is None or wavelength_m is None:
        raise ConfigError(
            f"object.slices = {options.object.slices}: expected physics.slice_m and a "
            f"wavelength, got {distance_m} and {wavelength_m}"
        )
    return angular_spectrum(
        (setting.size, setting.size),
        wavelength_m=wavelength_m,
        distance_m=distance_m,
        pixel_m=setting.pixel_m,
        device=device,
    )


def _detector(
    options: ReconOptions, setting: Setting, device: torch.device
) -> Detector:
    """Return what takes exit waves to the detector."""
    p = options.physics
    if p.model == "far":
        return far_field
    if p.fresnel_number is not None:
        number = (p.fresnel_number, p.fresnel_number)
    elif setting.wavelength_m is None or setting.distance_m is None:
        raise ConfigError(
            "physics.model = near: expected physics.fresnel_number, or a wavelength "
            f"and a distance, got {setting.wavelength_m} and {setting.distance_m}"
        )
    else:
        area = setting.wavelength_m * setting.distance_m / p.magnification
        number = (setting.pixel_m[0] ** 2 / area, setting.pixel_m[1] ** 2 / area)
    shape = (setting.size, setting.size)
    return near_field(fresnel(shape, fresnel_number=number, device=device))
