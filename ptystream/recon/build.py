"""Fields and learners from options."""

import torch
from jaxtyping import Complex
from torch import Tensor

from ptystream.models.field import Box, Field
from ptystream.models.hashgrid import HashGrid
from ptystream.models.multires import MultiRes
from ptystream.models.pixels import Pixels
from ptystream.models.pretrain import pretrain
from ptystream.models.siren import Siren
from ptystream.recon.learners import (
    Learner,
    NeuralLearner,
    PixelLearner,
    UnitLight,
    at_unit_light,
)
from ptystream.recon.options import ReconOptions

HASH_STEPS = 200
"""Steps that teach a hash grid its first probe; a second of one core at 64²."""


def pick_device(name: str) -> torch.device:
    """Return the device of a name; ``auto`` takes CUDA where there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def object_field(options: ReconOptions, device: torch.device) -> Field:
    """Return an empty object."""
    o = options.object
    if o.field == "pixels":
        return Pixels(o.slices, device=str(device))
    if o.field == "multires":
        return MultiRes(
            o.slices,
            levels=o.levels,
            features=o.features,
            width=o.width,
            device=str(device),
        )
    return Siren(
        o.slices,
        width=o.width,
        hidden=o.hidden,
        omega_first=o.omega0,
        scale_px=o.scale_px,
        flat=1.0,
    ).to(device)


def object_learner(field: Field, options: ReconOptions) -> Learner:
    """Return what teaches the object."""
    e = options.engine
    if isinstance(field, Pixels):
        return PixelLearner(
            field, rate=e.object_rate, momentum=e.momentum, settling=e.settling
        )
    rate = e.siren_rate if isinstance(field, Siren) else e.net_rate
    return NeuralLearner(field, net_rate=rate, grid_rate=e.grid_rate)


def reach(options: ReconOptions) -> float:
    """Return how far from its centre a batch may lie, in patterns."""
    if options.engine.reach is not None:
        return options.engine.reach
    return 3.0 if options.object.field == "pixels" else 1 / 3


def probe_field(
    first: Complex[Tensor, "m k k"], options: ReconOptions, device: torch.device
) -> Field:
    """Return a probe that starts as ``first``, in the engine's gauge."""
    first = at_unit_light(first.to(device, torch.complex64))
    box = Box(0, 0, *first.shape[-2:])
    if options.probe.field == "pixels":
        pixels = Pixels(len(first), empty=0j, device=str(device))
        pixels.write(box, first)
        return pixels
    net = HashGrid(len(first), size_px=box.h, output_scale=100.0, peak=None)
    grid = UnitLight(net.to(device))
    pretrain(grid, first, box, steps=HASH_STEPS, lr=1e-3)
    return grid


def probe_learner(field: Field, options: ReconOptions) -> Learner:
    """Return what teaches the probe."""
    e = options.engine
    if isinstance(field, Pixels):
        return PixelLearner(
            field,
            rate=e.probe_rate,
            momentum=e.momentum,
            constraint=at_unit_light,
        )
    return NeuralLearner(field, net_rate=0.1 * e.net_rate, grid_rate=e.grid_rate)
