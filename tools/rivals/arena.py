"""Runs of solvers on problems, kept in a folder and resumed from there."""

import shutil
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ptystream.errors import FileFormatError
from tools.rivals import star
from tools.rivals.environments import Environment, PeerError
from tools.rivals.judge import judged
from tools.rivals.problems import PROBLEMS, STAR, Made, make, star_halves
from tools.rivals.race import Limits, Ran, run
from tools.rivals.result import Result, kept
from tools.rivals.solvers import Solver, wanted


@dataclass(frozen=True)
class Task:
    """One run to make."""

    problem: str
    solver: Solver


class Arena:
    """Makes problems once, runs solvers on them, and keeps each result as JSON.

    What an earlier call left in the folder with the same limits is taken as it is,
    unless ``again``. Snapshots go once they are scored.
    """

    def __init__(
        self,
        folder: Path,
        *,
        pythons: Callable[[Environment], Path],
        seconds: float,
        threads: int,
        quick: bool = False,
        again: bool = False,
        star: Path | None = None,
    ) -> None:
        self._folder = folder / "quick" if quick else folder
        self._pythons, self._seconds, self._threads = pythons, seconds, threads
        self._quick, self._again, self._star = quick, again, star
        self._made: dict[str, tuple[Made, ...]] = {}
        self._lock = threading.Lock()

    def tasks(self, problem: str, peers: Sequence[str] | None) -> list[Task]:
        """Return the runs of a problem, those of some peers or all."""
        solvers = wanted(PROBLEMS.get(problem))
        return [Task(problem, s) for s in solvers if not peers or s.peer in peers]

    def run(self, task: Task) -> Result:
        """Return a run's result; what went wrong is told in it."""
        solver, limits = task.solver, self._limits(task)
        folder = self._folder / task.problem
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{solver.name}.json"
        earlier = kept(path, seconds=limits.seconds, threads=limits.threads)
        if earlier is not None and not self._again:
            return earlier
        empty = Result(
            task.problem, solver.label, solver.variant, limits.seconds, limits.threads
        )
        try:
            result = self._ran(task, limits, empty)
        except (PeerError, FileFormatError) as error:
            result = replace(empty, error=str(error))
        result.write(path)
        return result

    def _limits(self, task: Task) -> Limits:
        problem = PROBLEMS.get(task.problem)
        share = problem.share if problem and not self._quick else 1.0
        return Limits(self._seconds * share * task.solver.share, self._threads)

    def _ran(self, task: Task, limits: Limits, empty: Result) -> Result:
        python = self._pythons(task.solver.environment)
        made = self._problem(task.problem)
        place = self._folder / task.problem / task.solver.name
        folders = [place / str(i) for i in range(len(made))]
        problem = PROBLEMS.get(task.problem)
        ran = [
            run(task.solver, problem, each, python, folder, limits)
            for each, folder in zip(made, folders, strict=True)
        ]
        result = _with_costs(empty, ran)
        if task.problem == STAR:
            even, odd = folders
            result = replace(result, star=star.halves(even, odd, made))
        else:
            result = replace(result, points=judged(folders[0], made[0]))
        shutil.rmtree(place)
        return result

    def _problem(self, name: str) -> tuple[Made, ...]:
        """Return a problem's scans, made when first asked for."""
        with self._lock:
            if name not in self._made:
                folder = self._folder / name
                if name == STAR and self._star is not None:
                    self._made[name] = tuple(star_halves(self._star, folder).values())
                else:
                    self._made[name] = (
                        make(PROBLEMS[name], folder, quick=self._quick),
                    )
            return self._made[name]


def _with_costs(result: Result, ran: Sequence[Ran]) -> Result:
    return replace(
        result,
        cpu_s=sum(r.cpu_s for r in ran),
        wall_s=sum(r.wall_s for r in ran),
        peak_mib=max(r.peak_mib for r in ran),
        iterations=sum(r.iterations for r in ran),
        versions=ran[0].versions,
    )
