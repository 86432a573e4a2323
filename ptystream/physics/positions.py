"""Refined scan positions: an offset for each frame, and one small affine for all.

What both could express is given to the affine, and a common shift to neither: it would
only move the object. ``fix_gauge`` sees to it, between steps.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


class Positions(nn.Module):
    """Corrections to nominal positions ``(y, x)`` in object pixels.

    refined = centre + A (nominal − centre) + offset[frame], where A is
    rotation · shear · scale, of the parameters ``affine``: log scale y, log scale x,
    shear, rotation (rad). The memory is ``frames`` offsets, whatever arrives.
    """

    def __init__(
        self, frames: int, *, centre_px: tuple[float, float] = (0.0, 0.0)
    ) -> None:
        super().__init__()
        self.offset_px = nn.Parameter(torch.zeros(frames, 2))
        self.affine = nn.Parameter(torch.zeros(4))
        self.centre_px: Tensor
        self.register_buffer("centre_px", torch.tensor(centre_px))

    def forward(
        self, frame: Int[Tensor, " b"], nominal_px: Float[Tensor, "b 2"]
    ) -> Float[Tensor, "b 2"]:
        """Return the refined positions of these frames."""
        lever = nominal_px - self.centre_px
        moved = self.centre_px + lever @ matrix(self.affine).T
        return moved + self.offset_px[frame]

    @torch.no_grad()
    def fix_gauge(
        self, frame: Int[Tensor, " n"], nominal_px: Float[Tensor, "n 2"]
    ) -> None:
        """Move the affine-like part of the offsets into the affine, drop their mean.

        Give every frame seen so far. Relative positions do not change. Frames on one
        line leave some of the affine undetermined; that part is left alone. With
        ``nominal_px`` on the host nothing waits for the device.
        """
        lever = nominal_px - nominal_px.mean(0)
        offset = self.offset_px[frame]
        offset = offset - offset.mean(0)
        inverse = torch.linalg.pinv(lever, rtol=1e-4)
        part = inverse.to(offset.device, non_blocking=True) @ offset
        lever = lever.to(offset.device, non_blocking=True)
        self.offset_px[frame] = offset - lever @ part
        self.affine.copy_(parameters(matrix(self.affine) + part.T))


def matrix(affine: Float[Tensor, "4"]) -> Float[Tensor, "2 2"]:
    """Return rotation · shear · scale, acting on columns (y, x)."""
    scale_y, scale_x = affine[0].exp(), affine[1].exp()
    shear, (cos, sin) = affine[2], (affine[3].cos(), affine[3].sin())
    first = torch.stack([cos * scale_y, sin * scale_y])
    second = torch.stack([cos * shear - sin, sin * shear + cos]) * scale_x
    return torch.stack([first, second], 1)


def parameters(linear: Float[Tensor, "2 2"]) -> Float[Tensor, "4"]:
    """Undo ``matrix``; the map must keep the orientation (a positive determinant)."""
    first, second = linear[:, 0], linear[:, 1]
    scale_y = torch.linalg.vector_norm(first)
    along = first / scale_y
    across = torch.stack([-along[1], along[0]])
    scale_x = across @ second
    shear = (along @ second) / scale_x
    rotation = torch.atan2(along[1], along[0])
    return torch.stack([scale_y.log(), scale_x.log(), shear, rotation])
