"""What can be set of the data's health: frozen values; the configuration checks."""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Le

from ptystream.recon.option_types import CLOSED, Count, Positive, Share


@dataclass(frozen=True, slots=True)
class HealthOptions:
    """Whether the data contradict the configuration: short trials beside the engine.

    Some 60 hypotheses, that positions lag, are mirrored, of another scale and so on,
    each reconstruct the same few exposures from nothing, and predict some held out.
    For the far field.
    """

    __pydantic_config__ = CLOSED

    enabled: bool = True
    """Look for such faults, and name them."""
    frames: Annotated[int, Ge(60), Le(1000)] = 100
    """Exposures before the first trials, and in each."""
    share: Share = 0.1
    """Time that trials may take, over that of the engine's own steps; a round takes 6
    to 11 s of one core at 64²."""
    share_poor: Share = 0.3
    """The same while held-out exposures are poorly predicted, or nothing is known;
    after the last frame and 100 steps, half as long again as the engine's steps."""
    explained: Share = 0.9
    """Well predicted: this part of what is not noise, over an empty object."""
    passes: Count = 10
    """Times that each exposure of a trial is learned from."""
    gain: Share = 0.12
    """A fault is named if without it held-out exposures fit better by this part of the
    error that is not noise …"""
    sigmas: Positive = 2.5
    """… and by so many standard errors, in two trials with different ones held out."""
