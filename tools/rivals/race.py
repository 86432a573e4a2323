"""One solver on one problem: a process of its own, measured from outside."""

import json
import os
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.rivals.environments import PeerError, runner
from tools.rivals.problems import Made, Problem
from tools.rivals.solvers import Solver

RUNNERS = Path(__file__).parent / "runners"
PATIENCE = 12.0
"""A run that takes so many times its share of wall time, and a minute, is killed."""
TOLD_CHARACTERS = 300


@dataclass(frozen=True)
class Ran:
    """What a run left.

    Attributes:
        folder: its snapshots.
        cpu_s: of the whole process, imports and snapshots included.
        wall_s: the same on the wall.
        peak_mib: largest resident memory.
        iterations: how often it went through its loop.
        versions: of what it ran.
    """

    folder: Path
    cpu_s: float
    wall_s: float
    peak_mib: float
    iterations: int
    versions: dict[str, str]


@dataclass(frozen=True)
class Limits:
    """How long and on how many threads a run may work."""

    seconds: float
    threads: int


def run(
    solver: Solver,
    problem: Problem | None,
    made: Made,
    python: Path,
    folder: Path,
    limits: Limits,
) -> Ran:
    """Run a solver; its snapshots come to lie in ``folder``.

    Raises:
        PeerError: it failed or never ended: with its last words.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for old in (*folder.glob("*.npz"), folder / "done.json"):
        old.unlink(missing_ok=True)
    task = folder / "task.json"
    task.write_text(json.dumps(_task(solver, problem, made, limits)))
    script, log = RUNNERS / runner(solver.environment), folder / "log.txt"
    words = [str(python), str(script), str(made.npz), str(task), str(folder)]
    began_s = time.monotonic()
    with log.open("w") as out:
        code, used = _measured(words, out.fileno(), limits)
    wall_s = time.monotonic() - began_s
    if code != 0:
        said = " ".join(log.read_text(errors="replace").split())
        raise PeerError(f"ended with {code}: {said[-TOLD_CHARACTERS:]}")
    done = json.loads((folder / "done.json").read_text())
    return Ran(
        folder,
        cpu_s=used.ru_utime + used.ru_stime,
        wall_s=wall_s,
        peak_mib=used.ru_maxrss / 1024,
        iterations=done["iterations"],
        versions=done["versions"],
    )


def _task(
    solver: Solver, problem: Problem | None, made: Made, limits: Limits
) -> dict[str, Any]:
    settings = dict(solver.values)
    if not solver.environment.package:
        settings |= {
            "cxi": str(made.cxi),
            "centre_m": made.centre_m.tolist(),
            "flags": problem.flags() if problem else [],
        }
    return {
        "method": solver.method,
        "settings": settings,
        "seconds": limits.seconds,
        "threads": limits.threads,
        "began_s": time.monotonic(),
    }


def _measured(words: list[str], out: int, limits: Limits) -> tuple[int, Any]:
    """Return the exit code and the resources used; kill what goes on for ever."""
    variables = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    environment = {**os.environ, **dict.fromkeys(variables, str(limits.threads))}
    environment |= {"MPLBACKEND": "Agg", "CUDA_VISIBLE_DEVICES": ""}
    child = subprocess.Popen(words, stdout=out, stderr=out, env=environment)
    timer = threading.Timer(60 + PATIENCE * limits.seconds, child.kill)
    timer.start()
    try:
        _, status, used = os.wait4(child.pid, 0)
    except BaseException:
        child.kill()
        raise
    finally:
        timer.cancel()
        timer.join()
    child.returncode = os.waitstatus_to_exitcode(status)
    return child.returncode, used
