"""PSNR over processor seconds: a panel a problem and a part."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

from tools.rivals.environments import OURS
from tools.rivals.judge import PARTS
from tools.rivals.report import contest
from tools.rivals.result import Result, names

PANEL_IN = (3.8, 2.4)
ABREAST = 2
"""Problems in a row."""


def plot(results: Sequence[Result], path: Path) -> bool:
    """Draw each competitor's better settings; return whether there was anything."""
    scored = [r for r in results if r.points]
    problems, labels = names(scored, "problem"), names(scored, "label")
    if not problems:
        return False
    rows, columns = -(-len(problems) // ABREAST), ABREAST * len(PARTS)
    size = (PANEL_IN[0] * columns, PANEL_IN[1] * rows)
    figure = Figure(size, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, squeeze=False)
    pairs = panels.reshape(-1, len(PARTS))
    for panel in pairs[len(problems) :].flat:
        panel.set_axis_off()
    for row, problem in zip(pairs, problems, strict=False):
        entries = [r for r in contest(problem, scored).entries if r.points]
        for i, (panel, part) in enumerate(zip(row, PARTS, strict=True)):
            for entry in entries:
                _draw(panel, entry, i, labels.index(entry.label))
            panel.axhline(entries[0].points[0].empty[i], color="grey", linewidth=0.5)
            panel.set_xscale("log")
            panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            panel.xaxis.set_major_formatter(ScalarFormatter())
            panel.xaxis.set_minor_formatter(NullFormatter())
            panel.set_title(f"{problem}, {part}", fontsize=9)
            panel.set_ylabel("PSNR / dB")
    for panel in panels[-1]:
        panel.set_xlabel("processor seconds, imports included")
    panels[0][0].legend(fontsize=6)
    figure.savefig(path, dpi=100)
    return True


def _draw(panel: Axes, entry: Result, part: int, colour: int) -> None:
    ours = entry.label == OURS.name
    panel.plot(
        [point.cpu_s for point in entry.points],
        [point.aligned[part] for point in entry.points],
        marker=".",
        color="black" if ours else f"C{colour}",
        linewidth=2 if ours else 1,
        label=f"{entry.label} ({entry.variant})",
    )
