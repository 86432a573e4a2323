"""The first probe's aberrations: a defocus that is off is found within some 100 steps.

Pixel by pixel a probe of the wrong defocus takes thousands of steps to come right, and
where frames are few it never does. A handful of smooth phases over its pupil do.
"""

import torch
from jaxtyping import Bool, Complex, Float
from torch import Tensor

from ptystream.recon.optim import BETA_MEAN, BETA_SQUARE

EDGE = 1.4
"""Radius of the pupil in units of its root-mean-square radius (a full disc: √2)."""
NEAR = 1 / 3
"""So much of the turns come most of the way: on few frames the probe's pixels are as
well off after these as after all, and a measured lens is not only such terms."""
BEYOND = 3.0
"""Terms stay at their value at so many radii: light scattered far out would be turned
by large and meaningless phases."""


class Aberrations:
    """Turns the phase of a probe's pupil, by Adam on smooth terms.

    Each turn is one step on the coefficients, then the probe is as free as before:
    nothing of this is kept beside it. The rate falls to 0 over ``steps``.
    """

    def __init__(
        self,
        first: Complex[Tensor, "m k k"],
        *,
        order: int,
        rate_rad: float,
        steps: int,
    ) -> None:
        """Take the pupil from the first probe.

        Args:
            first: the probe, centred.
            order: of the highest terms: 2 is defocus and astigmatism, 3 coma, 4
                spherical aberration.
            rate_rad: the first step of each term, at the rim of the pupil.
            steps: turns until it is done.
        """
        self._terms = pupil_terms(first, order)
        self._rate_rad, self._steps, self._taken = rate_rad, steps, 0
        self._mean = self._terms.new_zeros(len(self._terms))
        self._square = self._mean.clone()

    @property
    def done(self) -> bool:
        """Whether all turns have been taken."""
        return self._taken >= self._steps

    @property
    def near(self) -> bool:
        """Whether those turns have been taken that come most of the way."""
        return self._taken >= NEAR * self._steps

    @torch.no_grad()
    def turn(
        self,
        probe: Complex[Tensor, "m k k"],
        gradient: Complex[Tensor, "m k k"],
        fade: float,
        finite: Bool[Tensor, ""],
    ) -> Complex[Tensor, "m k k"]:
        """Return the probe after one step against its gradient, where finite."""
        left = 1 - self._taken / self._steps
        self._taken += 1
        waves, slopes = torch.fft.fft2(probe), torch.fft.fft2(gradient)
        push = (slopes.conj() * waves).imag.sum(0)
        by_term = -torch.tensordot(self._terms, torch.where(finite, push, 0))
        self._mean.lerp_(by_term, 1 - BETA_MEAN)
        self._square.lerp_(by_term.square(), 1 - BETA_SQUARE)
        mean = self._mean / (1 - BETA_MEAN**self._taken)
        square = self._square / (1 - BETA_SQUARE**self._taken)
        step = mean / square.sqrt().clamp_min(1e-30) * finite
        turn = torch.tensordot(step, self._terms, 1) * (-self._rate_rad * fade * left)
        return torch.fft.ifft2(waves * torch.polar(torch.ones_like(turn), turn))


def pupil_terms(
    first: Complex[Tensor, "m k k"], order: int
) -> Float[Tensor, "terms k k"]:
    """Return y^i x^(n-i), n = 2 … order, over the pupil: 1 at its rim.

    Tilt (n = 1) is left out: it moves the probe, as the whole object may move.
    """
    light = torch.fft.fft2(first).abs().square().sum(0)
    light = (light / light.sum()).float()
    q = torch.fft.fftfreq(first.shape[-1], 1 / first.shape[-1], device=first.device)
    y, x = q[:, None] - (light.sum(1) @ q), q[None] - (light.sum(0) @ q)
    radius = EDGE * (light * (y**2 + x**2)).sum().sqrt()
    y, x = y / radius, x / radius
    powers = [(i, n - i) for n in range(2, order + 1) for i in range(n + 1)]
    return torch.stack([(y**i * x**j).clamp(-BEYOND, BEYOND) for i, j in powers])
