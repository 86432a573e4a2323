"""Pixels under a Sobolev metric: smooth first, and sharp where the data insist.

The logarithm of the object is a canvas of coefficients seen through a kernel under
which white noise gets the covariance e^(-r/ℓ) of natural images. Where frames are few,
what lies between them follows its surroundings, as in an implicit neural
representation; a step costs four Fourier transforms of the window instead of a network
at each of its pixels.
"""

from functools import lru_cache

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn

from ptystream.models.canvas import Canvas, Tile
from ptystream.models.field import Box
from ptystream.physics.forward import ObjectKind, polar, transmission

REACH = 4.0
"""The kernel falls as e^(-r/ℓ): coefficients further off than this many ℓ are left out
of a window (2 % of the kernel's height), so its cost follows the window."""

BRIGHTEST = 1.1
"""The logarithm of an amplitude stays within ± this: an empty object has 0 and nothing
real has much more, but in the dark between frames an exponential would run away."""


class Smooth(nn.Module):
    """log O = kernel ∗ coefficients, amplitude and phase alike; empty space is 1 + 0i.

    With white coefficients, structures of ``length_px`` and above are equally likely,
    smaller ones ever less so, and the canvas has no edge. Empty space is exp(i ln 2)
    of a ``potential``, which is never negative: a softplus.
    """

    def __init__(
        self,
        slices: int = 1,
        *,
        kind: ObjectKind = "complex",
        length_px: float = 8.0,
        device: str = "cpu",
    ) -> None:
        super().__init__()
        self.slices = slices
        self.kind: ObjectKind = kind
        self._channels = 2 if kind == "complex" else 1
        self._length_px, self._margin = length_px, round(REACH * length_px)
        self.canvas = Canvas(torch.zeros(self._channels * slices, device=device))
        self.tiles: list[Tile] = []

    def cover(self, box: Box) -> bool:
        """Make room for the box and what its pixels depend on."""
        return self.canvas.cover(self._around(box))

    def window(self, box: Box) -> Complex[Tensor, "s h w"]:
        """Return the field on the box."""
        around = self._around(box)
        self.canvas.cover(around)  # sizes are rounded up: a union may stick out
        if torch.is_grad_enabled():
            self.tiles = [self.canvas.tile(around)]
            coefficients = self.tiles[0].leaf
        else:
            rows, cols = self.canvas.slices(around)
            coefficients = self.canvas.values[:, rows, cols]
        return self._seen(self._through(coefficients), box, around)

    def _through(self, coefficients: Float[Tensor, "c h w"]) -> Float[Tensor, "c h w"]:
        """Return the coefficients seen through the kernel."""
        shape = (coefficients.shape[-2], coefficients.shape[-1])
        kernel = exponential_root(shape, self._length_px, coefficients.device)
        return torch.fft.irfft2(torch.fft.rfft2(coefficients) * kernel, s=shape)

    def _seen(
        self, log: Float[Tensor, "c h w"], box: Box, around: Box
    ) -> Complex[Tensor, "s h w"]:
        """Return the object on the box from its logarithm around it."""
        y, x = box.y - around.y, box.x - around.x
        log = log[:, y : y + box.h, x : x + box.w]
        log = log.reshape(self.slices, self._channels, box.h, box.w)
        if self.kind != "complex":
            return transmission(log[:, 0], self.kind)
        return polar((BRIGHTEST * (log[:, 0] / BRIGHTEST).tanh()).exp(), log[:, 1])

    def _around(self, box: Box) -> Box:
        """Return the box with its margin, of a size that is quick to transform."""
        h, w = (quick_size(n + 2 * self._margin) for n in (box.h, box.w))
        return Box(box.y - (h - box.h) // 2, box.x - (w - box.w) // 2, h, w)


@lru_cache(maxsize=1024)
def quick_size(least: int) -> int:
    """Return the next even number that has no prime factor above 5."""
    size = least + least % 2
    while _rough(size) > 1:
        size += 2
    return size


def _rough(number: int) -> int:
    """Return what is left without the factors 2, 3 and 5."""
    for prime in (2, 3, 5):
        while number % prime == 0:
            number //= prime
    return number


@lru_cache(maxsize=32)
def exponential_root(
    shape: tuple[int, int], length_px: float, device: torch.device
) -> Float[Tensor, "h f"]:
    """Return (1 + (2π f ℓ)²)^-¾ for ``rfft2``, the root of the spectrum of e^(-r/ℓ).

    White noise keeps its variance under it.
    Kept, and shared: don't write to it.
    """
    fine = torch.fft.fftfreq(512, dtype=torch.float64)
    power = _kernel(fine[:, None], fine[None], length_px).square().mean()
    y = torch.fft.fftfreq(shape[0], dtype=torch.float64)[:, None]
    x = torch.fft.rfftfreq(shape[1], dtype=torch.float64)[None]
    return (_kernel(y, x, length_px) / power.sqrt()).float().to(device)


def _kernel(y: Tensor, x: Tensor, length_px: float) -> Tensor:
    """Return the kernel at frequencies in cycles a pixel."""
    return (1 + (2 * torch.pi * length_px) ** 2 * (y**2 + x**2)) ** -0.75
