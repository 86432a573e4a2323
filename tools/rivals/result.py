"""One run's result, kept as JSON: what was run is not run again unless asked."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tools.rivals.judge import Point, best, point_of


@dataclass(frozen=True)
class Result:
    """A solver's run on a problem, or the error that it ended with.

    Attributes:
        problem, label, variant: which run it is; ``label`` names a competitor.
        seconds, threads: what it was given.
        points: its scores over time; of the measured star there are none.
        cpu_s, wall_s, peak_mib, iterations, versions: as measured from outside.
        star: the measured scan's figures: held-out error, FRC resolution in nm.
        error: why there is nothing.
    """

    problem: str
    label: str
    variant: str
    seconds: float
    threads: int
    points: list[Point] = field(default_factory=list)
    cpu_s: float = 0.0
    wall_s: float = 0.0
    peak_mib: float = 0.0
    iterations: int = 0
    versions: dict[str, str] = field(default_factory=dict)
    star: dict[str, float] = field(default_factory=dict)
    error: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {**self.__dict__, "points": [p.as_dict() for p in self.points]}

    def write(self, path: Path) -> None:
        """Keep it."""
        path.write_text(json.dumps(self.as_dict(), indent=1))


def result_of(told: dict[str, Any]) -> Result:
    """Return a result from its JSON."""
    return Result(**{**told, "points": [point_of(p) for p in told["points"]]})


def kept(path: Path, *, seconds: float, threads: int) -> Result | None:
    """Return what an earlier run left if it had the same limits; an error is retried.

    None where there is nothing of use.
    """
    try:
        found = result_of(json.loads(path.read_text()))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    same = (found.seconds, found.threads) == (seconds, threads)
    return found if same and not found.error else None


def names(results: Iterable[Result], attribute: str) -> list[str]:
    """Return the different values of an attribute, in order."""
    return list(dict.fromkeys(getattr(result, attribute) for result in results))


def better(results: Sequence[Result]) -> Result:
    """Return the run of one competitor that counts: that with the best state."""

    def worth(result: Result) -> float:
        top = best(result.points)
        held_out = result.star.get("held_out", float("inf"))
        return sum(top.aligned) if top else -held_out

    return max(results, key=worth)
