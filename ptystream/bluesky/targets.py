"""When a scan is good enough."""

import math
from dataclasses import dataclass

from ptystream.bluesky.values import Values


@dataclass(frozen=True, slots=True)
class Target:
    """What must be reached, all of it, in so many statuses in a row.

    ``quality`` is the held-out error, at most; ``resolution_m`` likewise; ``coverage``
    the share of the scanned area with enough dose, at least; ``frames`` at least;
    ``converged``: further frames of the same area no longer help.
    """

    quality: float | None = None
    resolution_m: float | None = None
    coverage: float | None = None
    converged: bool = False
    frames: int = 0
    in_a_row: int = 2

    def __post_init__(self) -> None:
        """Raise ValueError unless something is to be reached."""
        if self.quality is self.resolution_m is self.coverage is None:
            if not self.converged:
                raise ValueError(
                    "expected quality, resolution_m, coverage or converged"
                )

    def met(self, values: Values) -> str:
        """Return what was reached, in words; empty if not all of it."""
        if values.frames < self.frames:
            return ""
        reached = []
        for name, value, most in (
            ("held-out error", values.held_out_error, self.quality),
            ("resolution", values.resolution_m, self.resolution_m),
        ):
            if most is not None:
                if math.isnan(value) or value > most:
                    return ""
                reached.append(f"{name} {value:.4g} <= {most:.4g}")
        if self.coverage is not None:
            if values.coverage < self.coverage:
                return ""
            reached.append(f"coverage {values.coverage:.3f} >= {self.coverage:.3f}")
        if self.converged:
            if not values.converged:
                return ""
            reached.append("converged")
        return ", ".join(reached)
