"""What a scan's data are, beside options."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Complex
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Setting:
    """What the data are, beside options: all lengths in metres, points (y, x).

    ``pixel_m`` is that of the object; ``probe`` is the first guess, complex
    ``[modes, k, k]``; ``mask`` is true where the detector can be trusted; ``wide``
    keeps counts above 65,535. Slices and the near field need ``wavelength_m``, the
    near field ``distance_m`` from sample to detector as well.
    """

    size: int
    pixel_m: tuple[float, float]
    probe: Complex[Tensor, "m k k"]
    mask: np.ndarray | None = None
    wide: bool = False
    wavelength_m: float | None = None
    distance_m: float | None = None
