"""What can be set of the live quality: frozen values; the configuration checks."""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Gt, Le

from ptystream.recon.option_types import CLOSED, Count, Positive


@dataclass(frozen=True, slots=True)
class QualityOptions:
    """How good the reconstruction is, while it runs."""

    __pydantic_config__ = CLOSED

    halves: bool = False
    """Reconstruct the exposures of even and of odd index apart as well, each from
    nothing and by plain pixels: down to where both agree is the resolution, at half the
    dose. They share the probe, which has seen all."""
    halves_share: Annotated[float, Gt(0), Le(0.9)] = 1 / 3
    """halves: their part of all steps, both together; a third makes the engine half as
    slow again."""
    phase_rad: Positive = 0.1
    """Standard error of a pixel's phase at which its confidence is ½."""
    looks: Annotated[int, Ge(4)] = 8
    """converged: the held-out error has stood still for so many looks, one each 50
    steps."""
    gain: Positive = 0.005
    """converged: the smallest share of the error, from one half of these looks to the
    next, that counts as falling."""
    moved: Positive = 0.1
    """converged is taken back when the error has changed by more than this share, for
    better or worse."""
    grown: Positive = 0.05
    """converged is taken back when the covered area has grown by more than this
    share."""
    frc_steps: Count = 200
    """halves: steps between two times that they are compared: 0.2 s at 1004²."""
