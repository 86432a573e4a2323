"""Convolutional generative priors: paper B's U-Net, real or complex, as a field.

Channels are slices (object) or modes (probe). "Paper B" is deep generative priors.
"""

from typing import NamedTuple

import torch
from jaxtyping import Complex, Inexact
from torch import Tensor, nn

from ptystream.models.complex_layers import (
    Activation,
    BatchNorm,
    Maps,
    MaxPool,
    activation,
)
from ptystream.models.field import Box
from ptystream.physics.forward import ObjectKind, transmission


def _conv(i: int, o: int, dtype: torch.dtype) -> nn.Conv2d:
    """Return a 3 × 3 convolution that keeps the size and wraps round the edge."""
    return nn.Conv2d(i, o, 3, padding=1, padding_mode="circular", dtype=dtype)


class Style(NamedTuple):
    """What a block is made of; ``norm_first`` normalises before the activation.

    The paper names no order; its code activates first.
    """

    name: Activation = "relu"
    dtype: torch.dtype = torch.float32
    norm_first: bool = False


class Block(nn.Sequential):
    """Twice: convolution, then activation and normalisation in the style's order."""

    def __init__(self, i: int, o: int, style: Style) -> None:
        layers: list[nn.Module] = []
        for inputs in (i, o):
            after = [
                activation(style.name, o),
                BatchNorm(o, is_complex=style.dtype.is_complex),
            ]
            after = after[::-1] if style.norm_first else after
            layers += [_conv(inputs, o, style.dtype), *after]
        super().__init__(*layers)


class Up(nn.Sequential):
    """Twice the size, half the channels."""

    def __init__(self, i: int, o: int, dtype: torch.dtype) -> None:
        super().__init__(
            nn.ConvTranspose2d(
                i, i, 3, stride=2, padding=1, output_padding=1, dtype=dtype
            ),
            nn.Conv2d(i, o, 1, dtype=dtype),
            BatchNorm(o, is_complex=dtype.is_complex),
        )


class UNet(nn.Module):
    """The network: filters F, 2F, … down to ``depth`` halvings, and back up with skips.

    Height and width must be multiples of 2^depth. The last layer is a convolution
    without activation or normalisation.
    """

    def __init__(
        self,
        channels: int,
        *,
        depth: int = 3,
        filters: int = 16,
        name: Activation = "relu",
        norm_first: bool = False,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        style = Style(name, dtype, norm_first)
        widths = [filters << level for level in range(depth)]
        ins = [channels, *widths[:-1]]
        deepest = filters << depth
        self.down = nn.ModuleList(
            Block(i, o, style) for i, o in zip(ins, widths, strict=True)
        )
        self.pool = MaxPool()
        self.bottom = Block(widths[-1], deepest, style)
        self.up = nn.ModuleList(Up(2 * w, w, dtype) for w in reversed(widths))
        self.join = nn.ModuleList(Block(2 * w, w, style) for w in reversed(widths))
        self.last = _conv(filters, channels, dtype)

    def forward(self, maps: Maps) -> Maps:
        """Return maps of the same shape."""
        skips = []
        for block in self.down:
            maps = block(maps)
            skips.append(maps)
            maps = self.pool(maps)
        maps = self.bottom(maps)
        for up, join in zip(self.up, self.join, strict=True):
            maps = join(torch.cat([skips.pop(), up(maps)], 1))
        return self.last(maps)


def reach_px(depth: int) -> int:
    """Return how far from a pixel the network's output there still depends on input.

    29, 61 and 125 px for 2, 3 and 4 halvings.
    """
    reach = 1  # the last convolution
    for _ in range(depth):
        reach = -(-(reach + 3) // 2)  # a block, then the strided convolution
    reach += 2  # the bottom block
    for _ in range(depth):
        reach = 2 * reach + 3  # the pool, then a block
    return reach


class UNetField(nn.Module):
    """A field made by the network from an estimate, plus fresh noise in training.

    ``set_input`` gives the estimate, of which ``pretrain`` first makes the network an
    auto-encoder; outside it the input is ``empty``. A complex field has a complex
    network; ``phase`` and ``potential`` have a real one: its input is the estimate's
    phase (which must not wrap), its output goes through ``transmission``. ``noise`` is
    the root mean square of the noise (if complex, half of its square in Re, half in
    Im). ``scale`` divides input and multiplies output, for probes not of order 1.

    A window is made from its crop with ``margin_px`` on each side, aligned to the grid
    of the pools; by default all that its pixels can depend on (``reach_px``), so that
    in ``eval`` mode windows agree with each other exactly. A smaller margin is cheaper
    and wrong towards the edges. In training, normalisation takes mean and variance from
    the crop, not the whole object: an approximation that only ``whole`` avoids.
    ``whole`` makes the entire estimate each time and wraps round its edges: the paper's
    way, and the one for probes.
    """

    def __init__(
        self,
        channels: int = 1,
        *,
        kind: ObjectKind = "complex",
        depth: int = 3,
        filters: int = 16,
        name: Activation = "relu",
        norm_first: bool = False,
        noise: float = 0.025,
        whole: bool = False,
        margin_px: int | None = None,
        empty: complex = 1 + 0j,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        dtype = torch.complex64 if kind == "complex" else torch.float32
        self.kind: ObjectKind = kind
        self.net = UNet(
            channels,
            depth=depth,
            filters=filters,
            name=name,
            norm_first=norm_first,
            dtype=dtype,
        )
        self.step_px = 1 << depth
        self.noise, self.whole, self.scale = noise, whole, scale
        self.margin_px = reach_px(depth) if margin_px is None else margin_px
        self.empty = empty if kind == "complex" else 0.0
        self.place = Box(0, 0, 0, 0)
        self.estimate: Tensor
        self.register_buffer("estimate", torch.zeros(channels, 0, 0, dtype=dtype))

    def set_input(self, box: Box, estimate: Complex[Tensor, "s h w"]) -> None:
        """Take a new estimate for all of the plane: it on the box, empty elsewhere."""
        values = estimate if self.kind == "complex" else estimate.angle()
        self.estimate = values.detach().to(self.estimate)
        self.place = box

    def cover(self, box: Box) -> bool:
        """Extend a ``whole`` estimate by empty space; others need nothing."""
        if not self.whole or (self.place.h and self.place.holds(box)):
            return False
        grown = self.place.union(box) if self.place.h else box
        self.estimate, self.place = self._input(grown), grown
        return True

    def window(self, box: Box) -> Complex[Tensor, "s h w"]:
        """Return the field on the box.

        Raises:
            ValueError: the field is ``whole`` and does not cover the box.
        """
        if self.whole and not self.place.holds(box):
            raise ValueError(f"{box} is outside the estimate's {self.place}: cover it")
        crop = self._crop(box)
        given = self._input(crop) / self.scale
        if self.training and self.noise:
            given = given + self.noise * torch.randn_like(given)
        made = self.net(given[None])[0] * self.scale
        y, x = box.y - crop.y, box.x - crop.x
        made = made[:, y : y + box.h, x : x + box.w]
        return made if self.kind == "complex" else transmission(made, self.kind)

    def _crop(self, box: Box) -> Box:
        """Return what is to be made for the box: whole steps of the coarsest grid."""
        wanted, step = self.place, self.step_px
        if not self.whole:
            wanted = box.grown(self.margin_px)
            top, left = wanted.y // step * step, wanted.x // step * step
            wanted = Box(
                top, left, wanted.y + wanted.h - top, wanted.x + wanted.w - left
            )
        h, w = -(-wanted.h // step) * step, -(-wanted.w // step) * step
        return Box(wanted.y, wanted.x, h, w)

    def _input(self, crop: Box) -> Inexact[Tensor, "s h w"]:
        """Return the estimate on the crop, empty outside."""
        channels, place = len(self.estimate), self.place
        filled = self.estimate.new_full((channels, crop.h, crop.w), self.empty)
        top, left = max(crop.y, place.y), max(crop.x, place.x)
        h = min(crop.y + crop.h, place.y + place.h) - top
        w = min(crop.x + crop.w, place.x + place.w) - left
        if h > 0 and w > 0:
            part = self.estimate[:, top - place.y :, left - place.x :][:, :h, :w]
            filled[:, top - crop.y :, left - crop.x :][:, :h, :w] = part
        return filled
