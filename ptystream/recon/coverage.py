"""How much light each place has had, and how wide the scan is."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Complex, Float
from torch import Tensor

from ptystream.models.canvas import Canvas
from ptystream.models.field import Box

LIT = 0.5
"""Coverage, in peaks of the probe, from which a pixel counts as seen."""
RELIGHT = 100
"""Exposures after which the coverage follows what the probe has become."""


class Coverage:
    """Sums the probe's light over exposures; 1 is one probe's peak."""

    def __init__(self, size: int, device: torch.device) -> None:
        self._seen = Canvas(torch.zeros(1, device=device))
        self._light = torch.zeros((size, size), device=device)
        self._low, self._high = np.full(2, np.inf), np.full(2, -np.inf)
        self._size, self._exposures = size, 0

    def add(
        self,
        place_px: np.ndarray,
        box: Box,
        probe: Callable[[], Complex[Tensor, "m k k"]],
    ) -> None:
        """Add one exposure's light: its place (y, x) and the box of its patch."""
        self._low = np.minimum(self._low, place_px)
        self._high = np.maximum(self._high, place_px)
        if self._exposures % RELIGHT == 0:
            with torch.no_grad():
                light = probe().abs().square().sum(0)
            self._light = light / light.max()
        self._exposures += 1
        self._seen.cover(box)
        rows, cols = self._seen.slices(box)
        self._seen.values[0, rows, cols] += self._light

    def forget(self) -> None:
        """Begin anew: the probe was another than it was taken for."""
        self._seen.values.zero_()
        self._exposures = 0

    @property
    def width(self) -> float:
        """Return how wide the scan is the narrower way, in patterns."""
        return float((self._high - self._low).min() / self._size)

    def area_px(self) -> Float[Tensor, ""]:
        """Return how many pixels have been lit; on the device."""
        return (self._seen.values >= LIT).sum().float()

    def share(self) -> float:
        """Return the share of the box of exposures' places that has been lit."""
        low = np.floor(self._low).astype(int)
        extent = np.ceil(self._high).astype(int) - low + 1
        seen = self._window(Box(*low.tolist(), *extent.tolist()))
        return float((seen >= LIT).float().mean())

    def picture(self, box: Box) -> Float[np.ndarray, "h w"]:
        """Return the coverage on a box."""
        self._seen.cover(box)
        return self._window(box).cpu().numpy().copy()

    def _window(self, box: Box) -> Float[Tensor, "h w"]:
        rows, cols = self._seen.slices(box)
        return self._seen.values[0, rows, cols]
