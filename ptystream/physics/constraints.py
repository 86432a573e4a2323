"""Hard constraints: maps from what a model gives to what the optics are fed.

All are differentiable, so they stand between model and forward model in training
(paper B's text; its code applies them only to what is shown). "Paper A" is PtyINR.
"""

import torch
from jaxtyping import Complex, Float, Num
from torch import Tensor


def orthogonalise(probe: Complex[Tensor, "m k k"]) -> Complex[Tensor, "m k k"]:
    """Return the orthogonal modes with the same patterns, strongest first.

    The modes are mixed by the unitary eigenvectors of their Gram matrix. Patterns do
    not depend on such a mixing, so the eigenvectors carry no gradient: that is exact,
    and safe where two modes have equal power.
    """
    flat = probe.flatten(1)
    gram = (flat @ flat.mH).detach()
    _, mixing = torch.linalg.eigh(gram)
    return (mixing.flip(-1).mH @ flat).reshape(probe.shape)


def gram_schmidt(probe: Complex[Tensor, "m k k"]) -> Complex[Tensor, "m k k"]:
    """Return orthogonal modes, each with the power it had, strongest first.

    The way of paper B's code. Unlike ``orthogonalise`` it changes the patterns.
    """
    power = probe.detach().abs().square().sum((1, 2))
    order = power.argsort(descending=True)
    flat, kept = probe.flatten(1)[order], []
    for mode in flat:
        rest = mode
        for unit in kept:
            rest = rest - (unit.conj() @ rest) * unit
        kept.append(rest / _norm(rest))
    units = torch.stack(kept)
    norms = torch.linalg.vector_norm(flat, dim=1, keepdim=True)
    return (units * norms).reshape(probe.shape)


def identical_slices(volume: Num[Tensor, "s h w"]) -> Num[Tensor, "s h w"]:
    """Return every slice as the mean of all."""
    return volume.mean(0, keepdim=True).expand(volume.shape)


def positive(potential: Float[Tensor, "s h w"]) -> Float[Tensor, "s h w"]:
    """Clip a potential at zero; the clipped voxels have no gradient (softplus has)."""
    return potential.clamp_min(0)


def clamp_amplitude(
    volume: Complex[Tensor, "s h w"], low: float = 0.0, high: float = 1.0
) -> Complex[Tensor, "s h w"]:
    """Bring a transmission's amplitude into [low, high]; the phase stays."""
    amplitude = volume.abs()
    least = torch.finfo(amplitude.dtype).tiny
    scale = amplitude.clamp(low, high) / amplitude.clamp_min(least)
    return volume * scale


def remove_mean_phase(volume: Complex[Tensor, "s h w"]) -> Complex[Tensor, "s h w"]:
    """Turn each slice so that its mean, weighted by amplitude, is real and positive.

    Each slice's constant phase is unobservable. The turn carries no gradient.
    """
    mean = volume.detach().sum((1, 2), keepdim=True)
    return volume * torch.polar(torch.ones_like(mean.real), -mean.angle())


def normalise_by_maximum(
    probe: Complex[Tensor, "m k k"], peak: float = 1.0
) -> Complex[Tensor, "m k k"]:
    """Scale all modes together so that the largest amplitude is ``peak`` (paper A)."""
    largest = probe.abs().max()
    return probe * (peak / largest.clamp_min(torch.finfo(largest.dtype).tiny))


def fix_energy(
    probe: Complex[Tensor, "m k k"], energy: float
) -> Complex[Tensor, "m k k"]:
    """Scale all modes together so that Σ|P|² is ``energy``, in counts per pattern."""
    return probe * (energy**0.5 / _norm(probe.flatten()))


def recentre(probe: Complex[Tensor, "m k k"]) -> Complex[Tensor, "m k k"]:
    """Roll all modes together until the brightest pixel stands at [k/2, k/2].

    Paper A's code does this in every forward pass; its text does not. The object is not
    moved along, so it settles elsewhere: the ambiguity is removed, not the shift.
    """
    k, line = probe.shape[-1], torch.arange(probe.shape[-1], device=probe.device)
    brightest = probe.detach().abs().square().sum(0).argmax()
    rows = (line + brightest // k - k // 2) % k
    cols = (line + brightest % k - k // 2) % k
    return probe[:, rows[:, None], cols[None, :]]


def _norm(values: Complex[Tensor, " n"]) -> Float[Tensor, ""]:
    """Return the length, kept from zero so that an empty mode stays empty."""
    norm = torch.linalg.vector_norm(values)
    return norm.clamp_min(torch.finfo(norm.dtype).tiny)
