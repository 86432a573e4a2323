"""What is said of a reconstruction: quality, resolution, confidence, convergence."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Complex, Float

from ptystream.models.field import Box, Field
from ptystream.recon.confidence import Witnesses, confidence, phase_error_rad
from ptystream.recon.convergence import Convergence
from ptystream.recon.coverage import Coverage
from ptystream.recon.exposures import Exposures
from ptystream.recon.halves import Halves
from ptystream.recon.looks import Look
from ptystream.recon.metrics import Frc
from ptystream.recon.options_quality import QualityOptions
from ptystream.recon.predictor import Predictor
from ptystream.recon.quality import Misfit
from ptystream.recon.snapshot import Quality


class Judged(NamedTuple):
    """Held-out exposures (slots of the store), and their misfit; None of none."""

    slots: np.ndarray
    misfit: Misfit | None


class Appraisal:
    """Judges by held-out exposures, and by two halves of the others where asked to."""

    def __init__(
        self,
        exposures: Exposures,
        predictor: Predictor,
        coverage: Coverage,
        options: QualityOptions,
        halves: Halves | None,
    ) -> None:
        self._exposures, self._predictor = exposures, predictor
        self._coverage, self._options = coverage, options
        self.halves = halves
        self.convergence = Convergence(options)

    def saw(self, look: Look) -> None:
        """Take note of a look."""
        self.convergence.saw(look.error, look.area_px)
        if self.halves is not None:
            self.halves.saw(look)

    def judge(self, objects: Field, probe: Field) -> Judged:
        """Predict held-out exposures."""
        slots = self._exposures.held_out()
        return Judged(slots, self._predictor.misfit(slots, objects, probe))

    def quality(self, judged: Judged, loss: float, *, released: bool) -> Quality:
        """Return the quality but for the resolution; waits for the device."""
        told = {
            "loss": loss,
            "covered": self._coverage.share(),
            "probe_released": released,
            "converged": self.convergence.set,
        }
        total = judged.misfit
        if total is None:
            return Quality(**told)
        power = float(total.power)
        return Quality(
            held_out_error=float(total.error) / power,
            flat_error=float(total.flat) / power,
            noise_error=float(total.noise) / power,
            held_out_nll=float(total.deviance) / total.pixels,
            **told,
        )

    def compare(self, box: Box, step: int) -> Frc | None:
        """Return how the halves agree on a box; None where that is not known."""
        return None if self.halves is None else self.halves.compare(box, step)

    def confidence(
        self,
        judged: Judged,
        made: Complex[np.ndarray, "s h w"],
        probe: Complex[np.ndarray, "m k k"],
        box: Box,
    ) -> Float[np.ndarray, "h w"] | None:
        """Return each pixel's confidence on the box; None where nothing is held out.

        ``made`` is the object there, ``probe`` in roots of photons. The dose is the
        coverage, so scaled that all exposures have the light of the probe.
        """
        if judged.misfit is None:
            return None
        seen = self._exposures
        light = np.square(np.abs(probe)).sum(0)
        cover = self._coverage.picture(box)
        dose = cover * (seen.count * light.sum() / max(float(cover.sum()), 1e-30))
        corners = np.round(seen.store.position_px[judged.slots] - seen.setting.size / 2)
        witnesses = Witnesses(
            judged.misfit.excess.cpu().numpy() * seen.photons,
            judged.misfit.believed.cpu().numpy(),
            corners.astype(int) - (box.y, box.x),
        )
        through = made[0] if len(made) == 1 else made.prod(0)
        through = np.square(through.real) + np.square(through.imag)
        sigma_rad = phase_error_rad(dose, through, light, witnesses)
        return confidence(sigma_rad, self._options.phase_rad)
