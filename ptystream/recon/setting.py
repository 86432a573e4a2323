"""What a scan's data are, beside options."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Complex, Float
from torch import Tensor


class FirstProbe(NamedTuple):
    """A probe to begin with, and whose it is: ``optics`` or ``last scan r1``.

    ``affine`` are the positions' log scales (y, x), shear and rotation in radians that
    belong to it, as ``physics.positions`` has them; None: the positions as given.
    """

    waves: Complex[Tensor, "m k k"]
    origin: str = "given"
    affine: Float[Tensor, "4"] | None = None


@dataclass(frozen=True, slots=True)
class Setting:
    """What the data are, beside options: all lengths in metres, points (y, x).

    ``pixel_m`` is that of the object; ``probe`` is the first guess, complex
    ``[modes, k, k]``, ``origin`` says whose; ``last``, if there is one, is tried
    beside it on the first exposures, and preferred unless it fits worse. ``mask`` is
    true where the detector can be trusted; ``wide`` keeps counts above 65,535. Slices
    and the near field need ``wavelength_m``, the near field ``distance_m`` from sample
    to detector as well.
    """

    size: int
    pixel_m: tuple[float, float]
    probe: Complex[Tensor, "m k k"]
    mask: np.ndarray | None = None
    wide: bool = False
    wavelength_m: float | None = None
    distance_m: float | None = None
    origin: str = "given"
    last: FirstProbe | None = None
