"""What can be set of a reconstruction's start, and what it takes from the last scan."""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Le

from ptystream.recon.option_types import CLOSED


@dataclass(frozen=True, slots=True)
class StartOptions:
    """How first probes are tried on the first exposures."""

    __pydantic_config__ = CLOSED

    scales: Annotated[float, Ge(1), Le(4)] = 2.0
    """A first probe may be too large or too small by this factor at most: the mean
    pattern tells, and the first exposures decide. 1: its size is believed. Far field
    only."""
    frames: Annotated[int, Ge(8), Le(256)] = 24
    """Exposures on which probes are tried, where there is more than one; learning
    waits for so many, or for the end of the scan."""
    steps: Annotated[int, Ge(1), Le(1000)] = 20
    """Steps that each probe has, some 4 ms each at 64²."""


@dataclass(frozen=True, slots=True)
class WarmOptions:
    """What ``serve`` hands on from the last scan of the same geometry.

    All of it is tried on the new scan's first exposures, and dropped if they fit worse.
    """

    __pydantic_config__ = CLOSED

    probe: bool = True
    """The probe as it was learned."""
    positions: bool = True
    """Scale, rotation and shear of the positions as well, where ``nuisance.positions``
    learns them; together with the probe."""
