"""A measured figure, how it is taken fairly on a noisy machine, and how it is shown."""

import math
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

Bound = Literal["at most", "at least"]


@dataclass(frozen=True, slots=True)
class Figure:
    """One number; ``spread`` are its quartiles over the repeats, where it has any.

    ``bound`` says on which side of the target the figure must lie.
    """

    name: str
    value: float
    unit: str
    target: float | None = None
    bound: Bound = "at most"
    spread: tuple[float, float] | None = None

    @property
    def holds(self) -> bool | None:
        """Tell whether the target is reached; None where there is none."""
        if self.target is None:
            return None
        if self.bound == "at most":
            return self.value <= self.target
        return self.value >= self.target

    def as_dict(self) -> dict[str, Any]:
        """Return the figure for JSON."""
        return {
            "name": self.name,
            "value": _short(self.value),
            "unit": self.unit,
            "target": self.target,
            "holds": self.holds,
            "spread": self.spread and [_short(v) for v in self.spread],
        }


def interleaved(
    tasks: Mapping[str, Callable[[], object]], *, repeats: int, calls: int
) -> dict[str, list[float]]:
    """Return each task's seconds a call, a figure a repeat, taken in turns: A B A B.

    What else the machine does then touches all tasks alike. A first, unmeasured
    repeat warms caches; a repeat's figure is the median of its calls.
    """
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for repeat in range(repeats + 1):
        for name, task in tasks.items():
            took_s = statistics.median(_timed(task) for _ in range(calls))
            if repeat:
                seconds[name].append(took_s)
    return seconds


def ratio(
    name: str,
    above: Sequence[float],
    below: Sequence[float],
    *,
    target: float | None = None,
    bound: Bound = "at most",
) -> Figure:
    """Return the median of the repeats' ratios, with their quartiles."""
    ratios = [a / b for a, b in zip(above, below, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return Figure(name, middle, "x", target, bound, (low, high))


def median(
    name: str, values: Sequence[float], unit: str, target: float | None = None
) -> Figure:
    """Return the median of the repeats, with their quartiles; at most the target."""
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return Figure(name, middle, unit, target, spread=(low, high))


def processor_s(pid: int) -> float:
    """Return the processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def table(figures: Sequence[Figure]) -> str:
    """Return the figures for the screen."""
    rows = [("figure", "value", "quartiles", "unit", "target", "holds")]
    rows += [_row(figure.as_dict(), figure.bound) for figure in figures]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    )


def machine() -> dict[str, Any]:
    """Return what the figures depend on beside the code."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "torch_cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 1),
    }


def commit() -> str:
    """Return the checkout's commit, with ``+`` where files differ; else unknown."""
    root = Path(__file__).parents[2]
    words = ["git", "-C", str(root), "describe", "--always", "--dirty=+", "--abbrev=12"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def _timed(task: Callable[[], object]) -> float:
    began_s = time.perf_counter()
    task()
    return time.perf_counter() - began_s


def _row(figure: dict[str, Any], bound: str) -> tuple[str, ...]:
    spread, target, holds = figure["spread"], figure["target"], figure["holds"]
    return (
        figure["name"],
        "-" if figure["value"] is None else f"{figure['value']:g}",
        f"{spread[0]:g} to {spread[1]:g}" if spread else "",
        figure["unit"],
        "" if target is None else f"{bound} {target:g}",
        {None: "", True: "yes", False: "no"}[holds],
    )


def _short(value: float) -> float | None:
    """Return four digits; None for what JSON can't hold."""
    return float(f"{value:.4g}") if math.isfinite(value) else None


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
