"""Networks from options: what makes object and probe, under which constraints."""

from collections.abc import Callable

import torch
from jaxtyping import Complex
from torch import Tensor

from ptystream.models.field import Field
from ptystream.models.hashgrid import HashGrid
from ptystream.models.multires import MultiRes
from ptystream.models.siren import Siren
from ptystream.models.unet import UNetField
from ptystream.physics.constraints import (
    gram_schmidt,
    orthogonalise,
    recentre,
)
from ptystream.recon.hold import Constraint, Held, ObjectHold, probe_hold
from ptystream.recon.learners import Learner, NeuralLearner, at_unit_light
from ptystream.recon.optim import TileAdam
from ptystream.recon.options import ReconOptions
from ptystream.recon.published import PublishedLearner

Network = MultiRes | Siren | HashGrid | UNetField
ORTHOGONAL: dict[str, Constraint] = {
    "eigenvectors": orthogonalise,
    "gram_schmidt": gram_schmidt,
}
"""Ways to make a probe's modes orthogonal, by the names of ``probe.orthogonal_by``."""


def object_network(
    options: ReconOptions, device: torch.device, hold: ObjectHold
) -> Held:
    """Return the network that makes the object, empty, under its constraints."""
    inner = _object_inner(options, device)
    shown = options.object.constraints == "shown"
    return Held(inner, _only_shown(hold, inner) if shown else hold).to(device)


def probe_network(first: Complex[Tensor, "m k k"], options: ReconOptions) -> Held:
    """Return a network that knows nothing yet of the probe it is to be."""
    inner = _probe_inner(first, options)
    return Held(inner, _network_hold(first, options, inner)).to(first.device)


def network_learner(field: Field, options: ReconOptions, rate: float) -> Learner:
    """Return what teaches a network: one rate, or torch's Adam with one each net."""
    e = options.engine
    if e.adam == "quick" or isinstance(getattr(field, "inner", field), MultiRes):
        return NeuralLearner(
            field, net_rate=rate, tiles=TileAdam(e.grid_rate), by_light=e.by_light
        )
    return PublishedLearner(
        field, rate=rate, phase_rate=e.phase_rate, by_light=e.by_light
    )


def probe_normalisation(
    first: Complex[Tensor, "m k k"], options: ReconOptions
) -> Constraint | None:
    """Return what holds the probe's light or its maximum; None: nothing does."""
    kind = options.probe.normalise
    if kind == "none":
        return None
    peak = float(at_unit_light(first).abs().max()) if kind == "maximum" else None
    return probe_hold(peak, orthogonal=False)


def _together(steps: list[Constraint]) -> Constraint:
    """Return the constraints one after the other; without any, a window as it is."""

    def hold(window: Tensor) -> Tensor:
        for step in steps:
            window = step(window)
        return window

    return hold


def _only_shown(hold: Constraint, inner: Network) -> Constraint:
    """Return the constraint, which does nothing while the network is in training."""
    return lambda window: window if inner.training else hold(window)


def _network_hold(
    first: Complex[Tensor, "m k k"], options: ReconOptions, inner: Network
) -> Constraint:
    """Return what a network's probe is held to: centre, orthogonality, light."""
    p, steps = options.probe, list[Constraint]()
    if p.recentre:
        steps.append(recentre)
    if p.orthogonal_steps > 0 and p.modes > 1:
        mix = ORTHOGONAL[p.orthogonal_by]
        steps.append(_only_shown(mix, inner) if p.constraints == "shown" else mix)
    normalise = probe_normalisation(first, options)
    return _together(steps if normalise is None else [*steps, normalise])


def _object_inner(options: ReconOptions, device: torch.device) -> Network:
    """Return the object's network itself."""
    makers: dict[str, Callable[..., Network]] = {
        "multires": _multires,
        "siren": _siren,
        "hashgrid": _hash_object,
        "unet": _unet_object,
    }
    return makers[options.object.field](options, device)


def _multires(options: ReconOptions, device: torch.device) -> Network:
    o = options.object
    return MultiRes(
        o.slices,
        kind=options.physics.kind,
        levels=o.levels,
        features=o.features,
        width=o.width,
        device=str(device),
    )


def _siren(options: ReconOptions, _device: torch.device) -> Network:
    o = options.object
    return Siren(
        o.slices,
        kind=options.physics.kind,
        width=o.width,
        hidden=o.hidden,
        omega_first=o.omega0,
        omega_hidden=o.omega_hidden,
        coordinates=o.coordinates,
        scale_px=o.scale_px,
        scaled_bias=o.scaled_bias,
        absolute=o.absolute,
        flat=o.flat,
    )


def _hash_object(options: ReconOptions, _device: torch.device) -> Network:
    o, h = options.object, options.hashgrid
    return HashGrid(
        o.slices,
        kind=options.physics.kind,
        levels=h.levels,
        features=h.features,
        table=h.table,
        base=h.base,
        growth=h.growth,
        width=h.width,
        output_scale=h.output_scale,
        peak=None,
        signed=o.coordinates == "signed",
        absolute=o.absolute,
        flat=o.flat,
    )


def _unet_object(options: ReconOptions, _device: torch.device) -> Network:
    o = options.object
    return UNetField(
        o.slices,
        kind=options.physics.kind,
        depth=o.depth,
        filters=o.filters,
        name=o.activation,
        norm_first=o.norm_first,
        noise=o.noise,
        whole=o.whole,
    )


def _probe_inner(first: Complex[Tensor, "m k k"], options: ReconOptions) -> Network:
    """Return the probe's network itself."""
    p, h = options.probe, options.hashgrid
    if p.field == "unet":
        return UNetField(
            len(first),
            depth=p.depth,
            filters=p.filters,
            name=p.activation,
            norm_first=p.norm_first,
            noise=p.noise,
            whole=True,
            empty=0j,
        )
    return HashGrid(
        len(first),
        size_px=first.shape[-1],
        levels=h.levels,
        features=h.features,
        table=h.table,
        base=h.base,
        growth=h.growth,
        width=h.width,
        output_scale=h.output_scale,
        peak=None,
        signed=p.signed,
        absolute=p.absolute,
    )
