"""Who races, with which settings: each peer's own, and tuned ones; the better counts.

``docs`` are the values of the peer's own examples and defaults; ``tuned`` those found
good on dense scans, ``few`` those for few frames (full batches, smaller rates). They
were found elsewhere, but for quantEM's rate of pixels: it was raised to 0.01 … 0.02
after a look at overlap-85 cut to 100 frames.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tools.rivals.environments import OURS, PTYCHI, PTYRAD, QUANTEM, Environment
from tools.rivals.problems import Problem

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Solver:
    """One method of one package with one set of values.

    Attributes:
        peer: the package, for ``--peer``.
        method: what of it, for the runner.
        variant: ``docs``, ``tuned`` or ``few``.
        environment: where it runs.
        values: the runner's settings.
        share: of a problem's seconds; more where a single step takes ten.
    """

    peer: str
    method: str
    variant: str
    environment: Environment
    values: Values = field(default_factory=dict)
    share: float = 1.0

    @property
    def label(self) -> str:
        """Return package and method: settings of one label are one competitor."""
        return self.peer if self.peer == OURS.name else f"{self.peer} {self.method}"

    @property
    def name(self) -> str:
        """Return a name for files."""
        return f"{self.peer}-{self.method}-{self.variant}"


def _of(
    environment: Environment, method: str, share: float = 1.0, **variants: Values
) -> tuple[Solver, ...]:
    return tuple(
        Solver(environment.name, method, variant, environment, values, share)
        for variant, values in variants.items()
    )


SOLVERS: tuple[Solver, ...] = (
    *_of(OURS, "default", docs={}),
    *_of(
        PTYCHI,
        "lsqml",
        docs={"batch": 96, "object": 1.0, "probe": 1.0},
        tuned={"batch": 20, "object": 0.7, "probe": 0.7, "momentum": 0.5},
        few={"batch": 0, "object": 0.3, "probe": 0.3},
    ),
    *_of(
        PTYCHI,
        "epie",
        docs={"batch": 100, "object": 0.1, "probe": 0.1},
        tuned={"batch": 10, "object": 1.0, "probe": 1.0},
        few={"batch": 0, "object": 0.3, "probe": 0.3},
    ),
    *_of(PTYCHI, "dm", docs={"batch": 100}),
    *_of(
        PTYCHI,
        "ad",
        docs={"batch": 96, "object": 0.1, "probe": 0.1},
        tuned={"batch": 20, "object": 5e-3, "probe": 5e-3, "adam": True},
        few={"batch": 0, "object": 5e-3, "probe": 5e-3, "adam": True},
    ),
    *_of(
        PTYRAD,
        "ad",
        docs={"batch": 32, "object": 5e-4, "probe": 1e-4},
        tuned={"batch": 16, "object": 5e-3, "probe": 5e-3},
        few={"batch": 0, "object": 5e-3, "probe": 5e-3},
    ),
    *_of(
        QUANTEM,
        "pixels",
        docs={"batch": 128, "object": 5e-3, "probe": 1e-3},
        tuned={"batch": 32, "object": 2e-2, "probe": 2e-2, "plateau": True},
        few={"batch": 0, "object": 5e-3, "probe": 5e-3},
    ),
    *_of(
        QUANTEM,
        "dgp",
        share=4.0,
        docs={"batch": 128, "object": 1e-3, "probe": 1e-3, "pixels": 50, "teach": 50},
        tuned={"batch": 32, "object": 1e-4, "probe": 1e-4, "pixels": 20, "teach": 20},
    ),
)
"""All that may race; ours is run with its defaults alone."""


def wanted(problem: Problem | None) -> list[Solver]:
    """Return who races on a problem (None: the measured scan).

    The peers' own settings race everywhere, those for few frames where there are few,
    the tuned ones elsewhere, and those of a method that has no other.
    """
    few = problem is not None and problem.kind == "few"
    chosen, other = ("few", "tuned") if few else ("tuned", "few")
    return [
        solver
        for solver in SOLVERS
        if solver.variant != other or chosen not in _variants(solver)
    ]


def _variants(solver: Solver) -> set[str]:
    """Return the settings that a method has."""
    return {other.variant for other in SOLVERS if other.label == solver.label}
