"""An experiment whose background begins as the first patterns suggest."""

from typing import Any

from jaxtyping import Complex
from torch import Tensor

from ptystream.physics.forward import Background
from ptystream.recon.optics import GeneralOptics, Gradients, Shots, Way


class BackgroundOptics(GeneralOptics):
    """``GeneralOptics`` with a background that starts in the first batch.

    From 10⁻⁴ of the mean intensity, Adam took 300 steps to a background of 5 %: the
    root's gradient goes with the root.
    """

    def __init__(
        self, way: Way, background: Background, *, quantile: float, **more: Any
    ) -> None:
        super().__init__(way, background=background, **more)
        self._own, self._quantile, self._begun = background, quantile, False

    def gradients(
        self,
        window: Complex[Tensor, "s h w"],
        probe: Complex[Tensor, "m k k"],
        shots: Shots,
        *,
        probe_too: bool,
    ) -> Gradients:
        """Return loss and gradients."""
        if not self._begun:
            seen = shots.patterns
            counts = seen.amplitude.square()
            self._own.begin(counts, quantile=self._quantile, mask=seen.mask)
            self._begun = True
        return super().gradients(window, probe, shots, probe_too=probe_too)
