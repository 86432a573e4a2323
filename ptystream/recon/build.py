"""Fields, learners and optics from options."""

import torch
from jaxtyping import Complex
from torch import Tensor

from ptystream.errors import ConfigError
from ptystream.models.field import Box, Field
from ptystream.models.hashgrid import HashGrid
from ptystream.models.multires import MultiRes
from ptystream.models.pixels import Pixels
from ptystream.models.siren import Siren
from ptystream.models.unet import UNetField
from ptystream.physics.forward import Background, Detector, near_field
from ptystream.physics.propagate import angular_spectrum, far_field, fresnel
from ptystream.recon.handover import Pupil
from ptystream.recon.hold import Held, ObjectHold, probe_hold
from ptystream.recon.learners import (
    Learner,
    NeuralLearner,
    PixelLearner,
    at_unit_light,
)
from ptystream.recon.nuisance import Nuisance
from ptystream.recon.optics import FusedOptics, GeneralOptics, Optics, Way
from ptystream.recon.options import ReconOptions
from ptystream.recon.regularise import Prior
from ptystream.recon.setting import Setting

UNET_WARMUP = 200
"""Steps with pixels before a U-Net takes over, where nothing is said: without an
estimate as its input it has nothing to begin with."""
PRETRAIN_RATE = {"hashgrid": 1e-3, "unet": 3e-3}
"""Adam's rates while a network is taught, where not those of its engine. At paper B's
10⁻³ a U-Net is 4 to 10 times as far off after 100 steps as at this (60² object)."""


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
    hold = object_hold(options) if hold is None else hold
    return Held(_object_network(options, device), hold).to(device)


def object_pixels(options: ReconOptions, device: torch.device) -> Pixels:
    """Return an empty object of pixels."""
    return Pixels(options.object.slices, device=str(device))


def _object_network(options: ReconOptions, device: torch.device) -> Field:
    """Return the network that makes the object."""
    o, kind = options.object, options.physics.kind
    if o.field == "multires":
        return MultiRes(
            o.slices,
            kind=kind,
            levels=o.levels,
            features=o.features,
            width=o.width,
            device=str(device),
        )
    if o.field == "unet":
        return UNetField(
            o.slices,
            kind=kind,
            depth=o.depth,
            filters=o.filters,
            noise=o.noise,
            whole=o.whole,
        )
    return Siren(
        o.slices,
        kind=kind,
        width=o.width,
        hidden=o.hidden,
        omega_first=o.omega0,
        scale_px=o.scale_px,
        flat=1.0,
    )


def object_learner(
    field: Field, options: ReconOptions, hold: ObjectHold | None = None
) -> Learner:
    """Return what teaches the object; pixels are put under the constraints here."""
    e = options.engine
    if isinstance(field, Pixels):
        hold = object_hold(options) if hold is None else hold
        return PixelLearner(
            field,
            rate=e.object_rate,
            momentum=e.momentum,
            settling=e.settling,
            constraint=None if hold.idle else hold,
        )
    if options.object.field == "unet":
        return NeuralLearner(field, net_rate=e.unet_rate, grid_rate=e.grid_rate)
    rate = e.siren_rate if options.object.field == "siren" else e.net_rate
    return NeuralLearner(field, net_rate=rate, grid_rate=e.grid_rate)


def reach(options: ReconOptions, *, network: bool) -> float:
    """Return how far from its centre a batch may lie, in patterns.

    Networks cost what the window costs; pixels, and a U-Net that makes the whole
    object each time, cost the same however far.
    """
    if options.engine.reach is not None:
        return options.engine.reach
    whole = options.object.field == "unet" and options.object.whole
    return 3.0 if whole or not network else 1 / 3


def probe_field(
    first: Complex[Tensor, "m k k"], options: ReconOptions, device: torch.device
) -> Field:
    """Return a probe that starts as ``first``, in the engine's gauge."""
    first = at_unit_light(first.to(device, torch.complex64))
    box = Box(0, 0, *first.shape[-2:])
    if options.probe.field == "pixels":
        return probe_pixels(first)
    pupil, pixels = probe_pupil(first, options), probe_pixels(first)
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
    network = Held(_object_network(options, device), hold).to(device)
    seed = options.engine.seed
    if options.object.field == "unet":
        rate = PRETRAIN_RATE["unet"]
        return Pupil(network, NeuralLearner(network, net_rate=rate, grid_rate=0.0))
    return Pupil(network, object_learner(network, options), seed=seed)


def probe_pupil(first: Complex[Tensor, "m k k"], options: ReconOptions) -> Pupil:
    """Return the probe's network, to be taught; ``first`` is at unit light."""
    network = _probe_network(first, options)
    rate = PRETRAIN_RATE[options.probe.field]
    return Pupil(network, NeuralLearner(network, net_rate=rate, grid_rate=0.0))


def _probe_network(first: Complex[Tensor, "m k k"], options: ReconOptions) -> Held:
    """Return a network that knows nothing yet; the first probe's maximum may stay."""
    p = options.probe
    hold = probe_hold(_peak(first, options), orthogonal=_orthogonal(options))
    if p.field == "unet":
        return Held(
            UNetField(
                len(first),
                depth=p.depth,
                filters=p.filters,
                noise=p.noise,
                whole=True,
                empty=0j,
            ),
            hold,
        ).to(first.device)
    net = HashGrid(len(first), size_px=first.shape[-1], output_scale=100.0, peak=None)
    return Held(net, hold).to(first.device)


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
            constraint=probe_hold(_peak(first, options), orthogonal=False),
        )
    rate = e.unet_rate if options.probe.field == "unet" else e.net_rate
    return NeuralLearner(field, net_rate=0.1 * rate, grid_rate=e.grid_rate)


def _orthogonal(options: ReconOptions) -> bool:
    """Return whether a network's modes are mixed in each step."""
    return options.probe.orthogonal_steps > 0 and options.probe.modes > 1


def _peak(first: Complex[Tensor, "m k k"], options: ReconOptions) -> float | None:
    """Return the largest amplitude that the probe is held at, if it is."""
    if options.probe.normalise == "light":
        return None
    return float(at_unit_light(first).abs().max())


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
    )


def nuisance(options: ReconOptions, device: torch.device) -> Nuisance | None:
    """Return what is learned of each exposure; None for nothing."""
    n = options.nuisance
    if n.positions == "given" and not n.intensity:
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
    size = (setting.size, setting.size)
    background = Background(size, start_counts=1e-4) if p.background else None
    return GeneralOptics(
        way,
        loss=p.loss,
        beta=options.engine.beta,
        background=None if background is None else background.to(device),
        background_rate=p.background_rate,
        nuisance=learned,
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
