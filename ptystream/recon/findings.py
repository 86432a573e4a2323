"""What can be wrong between data and configuration, by name."""

from dataclasses import dataclass

FAULTS = (
    "positions lag",
    "axes swapped",
    "axis mirrored",
    "axes turned",
    "conjugate twin",
    "wrong scale",
    "wrong rate",
)
"""Every name that a finding may have."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A fault that the data show: one of ``FAULTS``, and what to do about it.

    ``sure`` is the share of held-out exposures, 0..1, that fit better without it.
    """

    fault: str
    detail: str
    sure: float
