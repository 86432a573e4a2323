"""What a classical engine is given: the whole scan at once, in memory."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Complex, Float
from torch import Tensor

from ptystream.models.field import Box


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """Measured amplitudes, where each was taken, and the first guess.

    ``amplitude`` ``[n, k, k]`` is √counts, zero frequency in the centre; what is not
    finite or is negative does not count. ``corner_px`` ``[n, 2]`` is where the first
    pixel of the probe's array lies, (y, x) in object pixels, whole or not. ``box`` is
    the canvas (default: the smallest that holds every patch), ``object`` what it
    starts from (default: empty, 1). ``mask`` is true where the detector can be trusted.

    ``subpixel`` moves the probe by what the corners lie beside the grid, else they are
    rounded. ``rescale`` brings the probe to the light of the mean pattern, so that an
    empty object stays near 1: turn it off for a probe in the units of the data.

    Raises:
        ValueError: the shapes do not fit each other, a position or the probe is not
            finite, or a patch leaves the box.
    """

    amplitude: Float[Tensor, "n k k"]
    corner_px: Float[Tensor, "n 2"]
    probe: Complex[Tensor, "m k k"]
    object: Complex[Tensor, "h w"] | None = None
    box: Box | None = None
    mask: Bool[Tensor, "k k"] | Bool[Tensor, "n k k"] | None = None
    subpixel: bool = True
    rescale: bool = True

    def __post_init__(self) -> None:
        n, k = len(self.amplitude), self.amplitude.shape[-1]
        if not n:
            raise ValueError("no patterns: expected at least one")
        self._expect("amplitude", self.amplitude, (n, k, k))
        self._expect("corner_px", self.corner_px, (n, 2))
        self._expect("probe", self.probe, (len(self.probe), k, k))
        for name, given in (("corner_px", self.corner_px), ("probe", self.probe)):
            if not bool(torch.isfinite(given).all()):
                raise ValueError(f"{name} has entries that are not finite")
        if self.object is not None:
            self._expect("object", self.object, self.canvas[2:])
        if not self.canvas.holds(self._patches()):
            raise ValueError(f"patches fill {self._patches()}: outside {self.canvas}")

    @property
    def canvas(self) -> Box:
        """The box, or the smallest one that holds every patch."""
        return self.box or self._patches()

    def _patches(self) -> Box:
        corner = self.corner_px.round()
        y, x = (int(v) for v in corner.amin(0))
        bottom, right = (int(v) + self.probe.shape[-1] for v in corner.amax(0))
        return Box(y, x, bottom - y, right - x)

    @staticmethod
    def _expect(name: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
        if tuple(tensor.shape) != tuple(shape):
            raise ValueError(f"{name} is {tuple(tensor.shape)}: expected {shape}")
