"""The picture before there is a reconstruction: scanning transmission and DPC.

What passes at each place is the object's transmission, seen with the probe's width;
where the pattern's centre of mass moves to is the slope of its phase.
"""

import numpy as np
import torch
from jaxtyping import Bool, Complex, Float, Int
from torch import Tensor

from ptystream.models.field import Box
from ptystream.physics.fused import patch_index
from ptystream.recon.exposures import Exposures

DARK = 1e-2
"""Places with less light than this, in units of the brightest, stay empty."""
MANY = 256
"""Exposures looked at: 64 MB at 256²."""


def scanned(
    amplitude: Float[Tensor, "n k k"],
    corners_px: Int[Tensor, "n 2"],
    light: Float[Tensor, "k k"],
    box: Box,
    *,
    mask: Bool[Tensor, "#n k k"] | None = None,
) -> Complex[Tensor, "h w"]:
    """Return transmission and phase on a box that holds all patches.

    The phase lacks what moves all patterns alike: a ramp. Empty where there is no
    light; a mean transmission of 1.

    Args:
        amplitude: roots of counts, zero frequency in the centre.
        corners_px: of the patches (y, x).
        light: of the probe, in the object's pixels.
        box: what is looked at.
        mask: true where a pixel can be trusted.
    """
    counts = amplitude.square()
    if mask is not None:
        counts = torch.where(mask, counts, 0)
    total, slope = _moments(counts)
    corners = corners_px - torch.tensor([box.y, box.x], device=corners_px.device)
    index = patch_index(corners, light.shape[-1], box.w).flatten()

    def spread(values: Float[Tensor, " n"]) -> Float[Tensor, "h w"]:
        patches = (values[:, None, None] * light).flatten()
        return (
            light.new_zeros(box.h * box.w)
            .index_add_(0, index, patches)
            .view(box.h, box.w)
        )

    lit = spread(torch.ones_like(total))
    floor = DARK * lit.max()
    passed = (spread(total / total.mean()) + floor) / (lit + floor)
    y, x = (spread(part) / (lit + floor) for part in slope.unbind(1))
    return torch.polar(passed.sqrt(), integrated(y, x))


def seen_by_scanning(
    exposures: Exposures, light: Float[Tensor, "k k"], box: Box
) -> Complex[Tensor, "h w"]:
    """Return the picture of exposures in store, of ``MANY`` spread over them at most.

    ``light`` is the probe's; the box holds all patches.
    """
    frames = exposures.store.frames
    slots = np.unique(np.linspace(0, frames - 1, min(frames, MANY)).astype(int))
    batch = exposures.batch(slots)
    mask = exposures.mask if batch.mask is None else batch.mask
    corners = torch.tensor(batch.corners_px, device=light.device)
    return scanned(batch.amplitude, corners, light, box, mask=mask)


def integrated(
    slope_y: Float[Tensor, "h w"], slope_x: Float[Tensor, "h w"]
) -> Float[Tensor, "h w"]:
    """Return what has these slopes a pixel, by least squares, of mean 0.

    Mirrored at the edges, so that what leaves at one side doesn't come in at the other.
    """
    h, w = slope_y.shape
    y = torch.cat([slope_y, -slope_y.flip(0)])
    x = torch.cat([slope_x, slope_x.flip(0)])
    y, x = torch.cat([y, y.flip(1)], 1), torch.cat([x, -x.flip(1)], 1)
    fy = 2 * torch.pi * torch.fft.fftfreq(2 * h, device=y.device)[:, None]
    fx = 2 * torch.pi * torch.fft.fftfreq(2 * w, device=y.device)
    square = fy**2 + fx**2
    square[0, 0] = 1  # the mean, of which slopes say nothing: it has none
    waves = fy * torch.fft.fft2(y) + fx * torch.fft.fft2(x)
    return torch.fft.ifft2(-1j * waves / square).real[:h, :w]


def _moments(
    counts: Float[Tensor, "n k k"],
) -> tuple[Float[Tensor, " n"], Float[Tensor, "n 2"]]:
    """Return each pattern's light, and the phase's slope (y, x) in radians a pixel."""
    size = counts.shape[-1]
    total = counts.sum((1, 2)).clamp_min(1e-30)
    line = (torch.arange(size, device=counts.device) - size // 2).to(counts)
    centre = torch.stack([counts.sum(2) @ line, counts.sum(1) @ line], 1)
    centre = centre / total[:, None]
    return total, 2 * torch.pi / size * (centre - centre.mean(0))
