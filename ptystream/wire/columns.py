"""What an encoder box says before anybody knows which column is which axis."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

CAPTURES = ("Value", "Mean", "Min", "Max", "Diff", "Sum", "StdDev")
"""What a box can capture of an encoder at a trigger, or over a gate."""


class Scaling(NamedTuple):
    """What turns counts into units, as the box was told: counts * scale + offset."""

    scale: float
    offset: float
    units: str


@dataclass(frozen=True, slots=True)
class Columns:
    """Rows of encoder values, one column a name such as ``INENC1.VAL.Mean``.

    ``first`` is the number of the first row, so a lost message shifts nothing.
    Columns are ``[n]`` float64, all of one length, and raw: in encoder counts. A Mean
    is one already, not a sum; it isn't finite where the gate was empty. ``scaling``
    has what the box knows of its columns.
    """

    scan: str
    first: int
    columns: Mapping[str, np.ndarray]
    scaling: Mapping[str, Scaling] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(next(iter(self.columns.values()), ()))
