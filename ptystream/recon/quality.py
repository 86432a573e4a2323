"""How well held-out exposures are predicted: the live, honest quality."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

TINY = 1e-9


class Misfit(NamedTuple):
    """Sums over held-out exposures, on the device until read.

    ``error`` Σ(a - A)², ``flat`` the same for an empty object, ``power`` ΣA²,
    ``deviance`` the Poisson deviance in photons, ``pixels`` how many were summed.
    """

    error: Float[Tensor, ""]
    flat: Float[Tensor, ""]
    power: Float[Tensor, ""]
    deviance: Float[Tensor, ""]
    pixels: int

    def plus(self, other: "Misfit") -> "Misfit":
        """Return the sums of both."""
        return Misfit(
            self.error + other.error,
            self.flat + other.flat,
            self.power + other.power,
            self.deviance + other.deviance,
            self.pixels + other.pixels,
        )


def misfit(
    model: Float[Tensor, "b k k"],
    flat: Float[Tensor, "b k k"],
    measured: Float[Tensor, "b k k"],
    *,
    photons: float,
    mask: Bool[Tensor, "#b k k"] | Bool[Tensor, "k k"] | None,
) -> Misfit:
    """Compare predicted with measured amplitudes.

    Args:
        model: predicted by the reconstruction.
        flat: predicted by an empty object under the same probe, scaled here to the
            measured light, so that only structure tells.
        measured: √counts over the root of ``photons``.
        photons: counts to a squared amplitude of 1.
        mask: the pixels to trust, of all patterns or of each; None: all.
    """
    if mask is not None:
        used = mask.expand(measured.shape)
        model, flat, measured = (x[used] for x in (model, flat, measured))
    flat = flat * (measured.square().sum() / flat.square().sum().clamp(TINY)).sqrt()
    counts, rate = measured.square() * photons, model.square() * photons + TINY
    deviance = 2 * (rate - counts + torch.xlogy(counts, counts / rate))
    return Misfit(
        (model - measured).square().sum(),
        (flat - measured).square().sum(),
        measured.square().sum(),
        deviance.sum(),
        measured.numel(),
    )
