"""From probe and object to the intensity on the detector: the differentiable reference.

Positions are those of the probe array's first pixel in the object window, ``(y, x)`` in
object pixels. Their integer part cuts the object, their remainder moves the probe (by
Fourier shift), so everything is differentiable in probe, object and position alike.
The engine's hand-written adjoint (``physics.fused``) is tested against these functions.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Complex, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from ptystream.physics.propagate import convolve, far_field, fourier_shift

Detector = Callable[[Tensor], Tensor]
"""Takes exit waves ``[b, m, k, k]`` to the detector plane."""

ObjectKind = Literal["complex", "phase", "potential"]
"""What a real model's output means: amplitude and phase, or one of ``transmission``."""


def polar(
    amplitude: Float[Tensor, "*b h w"], phase_rad: Float[Tensor, "*b h w"]
) -> Complex[Tensor, "*b h w"]:
    """Return amplitude·exp(i phase), with the right gradient at any amplitude.

    ``torch.polar`` gives the amplitude's gradient times its sign: 0 at 0, and uphill
    where it is negative (torch 2.13).
    """
    return torch.complex(amplitude * phase_rad.cos(), amplitude * phase_rad.sin())


def transmission(
    raw: Float[Tensor, "*b h w"], kind: ObjectKind
) -> Complex[Tensor, "*b h w"]:
    """Return exp(i raw) of a ``phase``, exp(i softplus(raw)) of a ``potential``.

    Raises:
        ValueError: a ``complex`` object needs two outputs, not one.
    """
    if kind == "complex":
        raise ValueError("a complex object is amplitude and phase: use polar")
    phase_rad = functional.softplus(raw) if kind == "potential" else raw
    return polar(torch.ones_like(phase_rad), phase_rad)


def near_field(kernel: Complex[Tensor, "k k"]) -> Detector:
    """Return a near-field experiment's detector; ``kernel`` is ``fresnel(...)``."""
    return partial(convolve, kernel=kernel)


def split(
    position_px: Float[Tensor, "b 2"],
) -> tuple[Int[Tensor, "b 2"], Float[Tensor, "b 2"]]:
    """Return the nearest whole pixel and the remainder, within ±½ px."""
    corner = position_px.detach().round()
    return corner.to(torch.int64), position_px - corner


def cut(
    window: Complex[Tensor, "s h w"],
    corner: Int[Tensor, "b 2"],
    size: int,
    *,
    checked: bool = True,
) -> Complex[Tensor, "b s k k"]:
    """Return the patch that starts at each corner.

    ``checked`` waits for the device; False is for callers who know the corners.

    Raises:
        ValueError: a patch leaves the window (a negative index would wrap silently).
    """
    if checked:
        last = corner.new_tensor(window.shape[-2:]) - size
        if bool(((corner < 0) | (corner > last)).any()):
            raise ValueError(f"a patch of {size} px leaves the window {window.shape}")
    line = torch.arange(size, device=window.device)
    rows = (corner[:, 0, None] + line)[:, :, None]
    cols = (corner[:, 1, None] + line)[:, None, :]
    return window[:, rows, cols].movedim(0, 1)


def exit_waves(
    probe: Complex[Tensor, "b m k k"],
    patches: Complex[Tensor, "b s k k"],
    between: Complex[Tensor, "k k"] | None = None,
) -> Complex[Tensor, "b m k k"]:
    """Pass each mode through the slices, first slice first.

    ``between`` is the ``angular_spectrum`` kernel from one slice to the next.

    Raises:
        ValueError: there are several slices but no kernel.
    """
    first, *rest = patches.split(1, dim=1)
    waves = probe * first
    for patch in rest:
        if between is None:
            raise ValueError(f"{len(rest) + 1} slices need the kernel between them")
        waves = convolve(waves, between) * patch
    return waves


def intensity(
    probe: Complex[Tensor, "m k k"],
    window: Complex[Tensor, "s h w"],
    position_px: Float[Tensor, "b 2"],
    *,
    between: Complex[Tensor, "k k"] | None = None,
    detector: Detector = far_field,
    background: Float[Tensor, "k k"] | None = None,
    checked: bool = True,
) -> Float[Tensor, "b k k"]:
    """Return the pattern of each position: modes and background add incoherently.

    Units are those of |probe|²: with the far field, a pattern's sum is the probe's.
    """
    corner, remainder_px = split(position_px)
    patches = cut(window, corner, probe.shape[-1], checked=checked)
    moved = fourier_shift(probe, remainder_px[:, None, :])
    arrived = detector(exit_waves(moved, patches, between))
    pattern = torch.view_as_real(arrived).square().sum((1, -1))
    return pattern if background is None else pattern + background


def quadrature(points: int, rule: str = "gauss") -> list[tuple[float, float]]:
    """Return (place, weight) pairs on the exposure's [0, 1]; the weights sum to 1.

    ``gauss`` is Gauss-Legendre, exact for polynomials of degree 2·points − 1;
    ``midpoint`` is the mean over equal parts, like a detector read ``points`` times.

    Raises:
        ValueError: the rule is unknown, or there is no point.
    """
    if points < 1:
        raise ValueError(f"a quadrature needs at least one point, not {points}")
    if rule == "midpoint":
        return [((i + 0.5) / points, 1 / points) for i in range(points)]
    if rule != "gauss":
        raise ValueError(f"quadrature rule {rule!r}: expected gauss or midpoint")
    nodes, weights = np.polynomial.legendre.leggauss(points)
    pairs = zip(nodes, weights, strict=True)
    return [(float(x + 1) / 2, float(w) / 2) for x, w in pairs]


def fly_intensity(
    probe: Complex[Tensor, "m k k"],
    window: Complex[Tensor, "s h w"],
    start_px: Float[Tensor, "b 2"],
    end_px: Float[Tensor, "b 2"],
    *,
    points: int = 3,
    rule: str = "gauss",
    between: Complex[Tensor, "k k"] | None = None,
    detector: Detector = far_field,
    background: Float[Tensor, "k k"] | None = None,
    checked: bool = True,
) -> Float[Tensor, "b k k"]:
    """Return patterns integrated along each exposure's straight path (PtyINR, eq. 1).

    The text integrates over the dwell time; here it is the mean over it, so that the
    probe's power stays that of the pattern whatever the dwell time. The text moves the
    probe over a fixed patch; here each point of the quadrature cuts its own patch: the
    same, but for a long path, where a moved probe would wrap round its array.
    """
    at = partial(
        intensity, probe, window, between=between, detector=detector, checked=checked
    )
    total = sum(
        weight * at(start_px + place * (end_px - start_px))
        for place, weight in quadrature(points, rule)
    )
    return total if background is None else total + background  # type: ignore[return-value]


class Background(nn.Module):
    """A learnable incoherent background, the same for every pattern, never negative.

    Kept as its square root, which makes it positive and suits losses on amplitudes.
    """

    def __init__(self, shape: tuple[int, int], *, start_counts: float = 1e-2) -> None:
        super().__init__()
        self._least = start_counts
        self.root = nn.Parameter(torch.full(shape, start_counts**0.5))

    @torch.no_grad()
    def begin(
        self,
        counts: Float[Tensor, "b k k"],
        *,
        quantile: float,
        mask: Bool[Tensor, "k k"] | Bool[Tensor, "b k k"] | None = None,
    ) -> None:
        """Start, the same everywhere, at a low quantile of the mean pattern.

        Where a pattern is darkest there is little but background. Pixels that are
        masked in every pattern say nothing; if all are, nothing changes.
        """
        used = torch.ones_like(counts) if mask is None else mask.expand(counts.shape)
        seen = used.sum(0)
        mean = torch.where(used > 0, counts, 0).sum(0) / seen.clamp_min(1)
        if bool(seen.any()):
            least = mean[seen > 0].quantile(quantile).clamp_min(self._least)
            self.root.fill_(float(least.sqrt()))

    def forward(self) -> Float[Tensor, "k k"]:
        """Return the counts per pixel."""
        return self.root.square()
