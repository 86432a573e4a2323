"""How well held-out exposures are predicted: the live, honest quality."""

import math
from functools import lru_cache
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

TINY = 1e-9
MANY = 64
"""Photons from which their root's noise is taken to be as at so many: ¼, and 0.7 %."""
NODES = 16
"""Places to a unit of √rate at which the photon noise of √counts is kept."""


class Misfit(NamedTuple):
    """Sums over held-out exposures, on the device until read.

    ``error`` Σ(a - A)², ``flat`` the same for an empty object, ``power`` ΣA²,
    ``deviance`` the Poisson deviance in photons, ``noise`` what ``error`` would be if
    only photon noise were left, ``pixels`` how many were summed. ``excess`` ``[n]`` is
    ``error`` less ``noise`` of each exposure, and ``believed`` the share of its light
    in pixels that were summed.
    """

    error: Float[Tensor, ""]
    flat: Float[Tensor, ""]
    power: Float[Tensor, ""]
    deviance: Float[Tensor, ""]
    noise: Float[Tensor, ""]
    pixels: int
    excess: Float[Tensor, " n"]
    believed: Float[Tensor, " n"]

    def plus(self, other: "Misfit") -> "Misfit":
        """Return the sums of both."""
        return Misfit(
            self.error + other.error,
            self.flat + other.flat,
            self.power + other.power,
            self.deviance + other.deviance,
            self.noise + other.noise,
            self.pixels + other.pixels,
            torch.cat([self.excess, other.excess]),
            torch.cat([self.believed, other.believed]),
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
    pixels, believed = measured.numel(), torch.ones_like(measured[:, 0, 0])
    if mask is not None:
        used = mask.expand(measured.shape)
        pixels, light = int(used.sum()), model.square()
        believed = (light * used).sum((1, 2)) / light.sum((1, 2)).clamp(TINY)
        model, flat, measured = (
            torch.where(used, x, 0) for x in (model, flat, measured)
        )
    flat = flat * (measured.square().sum() / flat.square().sum().clamp(TINY)).sqrt()
    counts, rate = measured.square() * photons, model.square() * photons + TINY
    deviance = 2 * (rate - counts + torch.xlogy(counts, counts / rate))
    error = (model - measured).square().sum((1, 2))
    noise = root_variance(rate).sum((1, 2)) / photons
    return Misfit(
        error.sum(),
        (flat - measured).square().sum(),
        measured.square().sum(),
        deviance.sum(),
        noise.sum(),
        pixels,
        error - noise,
        believed,
    )


def root_variance(rate: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
    """Return E (√n - √rate)² of Poisson counts n: up to 0.46 near 1, at last ¼."""
    rate = rate.clamp(max=MANY)
    place, table = rate.sqrt() * NODES, _table().to(rate.device)
    low = place.nan_to_num().floor().clamp(max=len(table) - 2)
    share, at = place - low, low.long()
    return rate * (table[at] * (1 - share) + table[at + 1] * share)


@lru_cache(maxsize=1)
def _table() -> Float[Tensor, " n"]:
    """Return that expectation over the rate, at √rate = 0, 1/16, 2/16 … 8.

    Over the rate, since most pixels are dark: there it is 2, and all but linear.
    """
    root = torch.arange(math.isqrt(MANY) * NODES + 1, dtype=torch.float64) / NODES
    n = torch.arange(200, dtype=torch.float64)
    log = torch.xlogy(n, root[:, None].square()) - torch.lgamma(n + 1)
    share = (log - root[:, None].square()).exp()
    over = (share * (n.sqrt() - root[:, None]).square()).sum(1) / root.square()
    return torch.cat([over.new_tensor([2.0]), over[1:]]).float()
