"""What comes before the first step: which of several first probes to begin with."""

import torch
from jaxtyping import Float
from torch import Tensor

from ptystream.models.field import Box
from ptystream.recon.audition import Audition
from ptystream.recon.dilation import rescaled, with_aperture
from ptystream.recon.engine import Engine, StepStats
from ptystream.recon.exposures import FIRST, Exposures
from ptystream.recon.options import ReconOptions
from ptystream.recon.setting import FirstProbe


class Opening:
    """Finds rivals of the first probe, and lets the first exposures choose.

    Rivals are the last scan's probe, and where the mean pattern is that of another
    size or aperture, the first probe with these. Without rivals it is done at once.
    """

    def __init__(
        self, engine: Engine, exposures: Exposures, options: ReconOptions
    ) -> None:
        self._engine, self._exposures, self._options = engine, exposures, options
        self._rivals: list[FirstProbe] | None = None
        self._audition: Audition | None = None
        setting = exposures.setting
        self.chosen = FirstProbe(setting.probe, setting.origin)
        self.done = options.probe.known

    def look(self) -> None:
        """Look for rivals once, as soon as there are exposures to look at."""
        if self.done or self._rivals is not None or self._exposures.count < FIRST:
            return
        last = self._exposures.setting.last
        self._rivals = [self.chosen, *self._resized()]
        if last is not None:
            self._rivals.insert(0, last)
        self.done = len(self._rivals) == 1

    def step(self, box: Box, *, wait: bool) -> StepStats | None:
        """Let a rival learn; None while more exposures are waited for.

        ``box`` is all that exposures may look at. The last step chooses.
        """
        wanted = self._options.start.frames
        if self._rivals is None or (wait and self._exposures.count < wanted):
            return None
        if self._audition is None:
            self._audition = Audition(
                self._rivals, self._engine, self._exposures, self._options, box
            )
        stats = self._audition.step(box)
        if self._audition.done:
            self.chosen, self.done = self._audition.winner(), True
            self._audition = self._rivals = None
        return stats

    def _resized(self) -> list[FirstProbe]:
        """Return the first probe as the mean pattern would have it; none if it fits."""
        options, (waves, origin, _) = self._options, self.chosen
        if options.start.scales == 1 or options.physics.model != "far":
            return []
        if options.probe.field != "pixels":
            return []
        pattern = self._mean_pattern().cpu()
        found = rescaled(waves.cpu(), pattern, most=options.start.scales)
        if found is None:
            return []
        size, resized = found
        named = f"{origin}, {size:.2g} times as large"
        lit = ", with the patterns' aperture"
        return [
            FirstProbe(resized, named),
            FirstProbe(with_aperture(resized, pattern), named + lit),
            FirstProbe(with_aperture(waves.cpu(), pattern), origin + lit),
        ]

    def _mean_pattern(self) -> Float[Tensor, "k k"]:
        """Return the mean of the patterns so far; NaN where none can be trusted."""
        slots = torch.arange(self._exposures.store.frames).numpy()
        batch = self._exposures.batch(slots)
        used = self._exposures.mask if batch.mask is None else batch.mask
        light = batch.amplitude.square()
        if used is None:
            return light.mean(0)
        used = used.expand(light.shape)
        return torch.where(used, light, 0).sum(0) / used.sum(0)
