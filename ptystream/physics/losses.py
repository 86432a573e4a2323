"""What is minimised: likelihoods of the patterns, and soft constraints on the volume.

``predicted`` and ``counts`` are intensities ``[b, h, w]``. ``mask`` is True where a
pixel counts; elsewhere its value, be it NaN or saturated, touches neither the loss, nor
the gradient, nor the number divided by. Losses are means over the pixels that count.

"Paper A" is PtyINR (X-ray, neural fields), "paper B" the deep generative priors.
"""

import torch
from jaxtyping import Bool, Complex, Float, Num
from torch import Tensor
from torch.nn import functional

Mask = Bool[Tensor, "#b h w"] | Bool[Tensor, "h w"] | None


def smooth_l1(
    predicted: Float[Tensor, "b h w"],
    counts: Num[Tensor, "b h w"],
    *,
    beta: float = 1e-3,
    mask: Mask = None,
) -> Float[Tensor, ""]:
    """Smooth L1 of the amplitudes (paper A, eq. 2): quadratic below β, then linear.

    β is in units of the amplitude, √counts; the papers' values (10⁻⁴ … 10⁻¹) suppose
    data scaled so that |object| is about 1. β = 0 is ``amplitude_l1``.
    """
    model, seen, used = _amplitudes(predicted, counts, mask)
    each = functional.smooth_l1_loss(model, seen, beta=beta, reduction="none")
    return _mean(each, used)


def amplitude_l1(
    predicted: Float[Tensor, "b h w"],
    counts: Num[Tensor, "b h w"],
    *,
    mask: Mask = None,
) -> Float[Tensor, ""]:
    """Mean absolute difference of the amplitudes."""
    model, seen, used = _amplitudes(predicted, counts, mask)
    return _mean((model - seen).abs(), used)


def amplitude_l2(
    predicted: Float[Tensor, "b h w"],
    counts: Num[Tensor, "b h w"],
    *,
    mask: Mask = None,
    relative: bool = False,
) -> Float[Tensor, ""]:
    """Mean squared difference of the amplitudes.

    ``relative`` divides by the mean counts instead of by nothing: Σ(a − A)²/ΣA², 0 to
    about 1 whatever the dose. Paper B gives no formula; its code is this times the
    number of frames (later versions: half of that), a factor that Adam does not see.
    """
    model, seen, used = _amplitudes(predicted, counts, mask)
    error = _mean((model - seen).square(), used)
    if not relative:
        return error
    return error / _mean(seen.square(), used).clamp_min(torch.finfo(error.dtype).tiny)


def poisson_deviance(
    predicted: Float[Tensor, "b h w"],
    counts: Num[Tensor, "b h w"],
    *,
    mask: Mask = None,
    floor_counts: float = 1e-6,
) -> Float[Tensor, ""]:
    """Twice the negative log-likelihood of photon counts, less that of a perfect model.

    0 for a perfect model, about 1 for a true one at high counts. ``floor_counts`` is
    added to both sides, which keeps photons where none were predicted finite.
    """
    model, seen, used = _cleaned(predicted, counts, mask)
    n, mean = seen + floor_counts, model + floor_counts
    return _mean(2 * (mean - n + n * (n / mean).log()), used)


def probe_amplitude(probe: Complex[Tensor, "m k k"]) -> Float[Tensor, ""]:
    """Mean amplitude of the probe (paper A, eq. 2); times λ, for the first k steps."""
    return probe.abs().mean()


def total_variation(
    volume: Num[Tensor, "z y x"],
    *,
    weight_xy: float,
    weight_z: float = 0.0,
    published: bool = False,
) -> Float[Tensor, ""]:
    """Anisotropic total variation (paper B, eq. 1) of a potential or a transmission.

    The text: all differences summed, over the number of voxels. ``published``, as its
    code: the mean difference along each axis, over the number of axes with a weight.
    A complex volume gives amplitude and phase their own, summed; the phase difference
    is that of the neighbours' ratio, so a wrap of the phase is no edge.
    """
    total = volume.real.new_zeros(())
    weights = (weight_z, weight_xy, weight_xy)
    active = sum(w > 0 and n > 1 for w, n in zip(weights, volume.shape, strict=True))
    for axis, weight in enumerate(weights):
        if weight == 0 or volume.shape[axis] < 2:
            continue
        steps = _steps(volume, axis)
        divisor = steps.numel() * active if published else volume.numel()
        total = total + weight * steps.sum() / divisor
    return total


def surface_zero(
    volume: Num[Tensor, "z y x"], *, weight: float, published: bool = False
) -> Float[Tensor, ""]:
    """Penalty on the first and the last slice (paper B, eq. 2).

    The text has ½ of the two means; ``published``, as its code, their sum. The text
    speaks of a potential; for a transmission, empty is amplitude 1 and the slice's mean
    phase, and the deviations from both count (its code's way).
    """
    ends = torch.stack([volume[0], volume[-1]])
    if ends.is_complex():
        mean = ends.detach().sum((1, 2), keepdim=True)
        size = (1 - ends.abs()).abs() + (ends * mean.conj()).angle().abs()
    else:
        size = ends.abs()
    return weight * size.mean() * (2 if published else 1)


def _steps(volume: Num[Tensor, "z y x"], axis: int) -> Float[Tensor, "..."]:
    """Return the absolute differences of neighbours along an axis."""
    n = volume.shape[axis] - 1
    here, there = volume.narrow(axis, 0, n), volume.narrow(axis, 1, n)
    if not volume.is_complex():
        return (there - here).abs()
    turn = (there * here.conj()).angle().abs()
    return (there.abs() - here.abs()).abs() + turn


def _cleaned(
    predicted: Float[Tensor, "b h w"], counts: Num[Tensor, "b h w"], mask: Mask
) -> tuple[
    Float[Tensor, "b h w"], Float[Tensor, "b h w"], Bool[Tensor, "b h w"] | None
]:
    """Return both with 1 where masked, and the mask for each pattern."""
    seen = counts.to(predicted.dtype)
    if mask is None:
        return predicted, seen, None
    used = mask.expand(predicted.shape)
    return torch.where(used, predicted, 1), torch.where(used, seen, 1), used


def _amplitudes(
    predicted: Float[Tensor, "b h w"], counts: Num[Tensor, "b h w"], mask: Mask
) -> tuple[
    Float[Tensor, "b h w"], Float[Tensor, "b h w"], Bool[Tensor, "b h w"] | None
]:
    """Return both roots; the gradient at zero intensity is 0, not infinite."""
    model, seen, used = _cleaned(predicted, counts, mask)
    least = torch.finfo(model.dtype).tiny
    return model.clamp_min(least).sqrt(), seen.clamp_min(0).sqrt(), used


def _mean(
    each: Float[Tensor, "b h w"], used: Bool[Tensor, "b h w"] | None
) -> Float[Tensor, ""]:
    """Return the mean over the pixels used; 0 if there are none."""
    if used is None:
        return each.mean()
    return torch.where(used, each, 0).sum() / used.sum().clamp_min(1)
