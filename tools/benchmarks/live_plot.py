"""PSNR over time, a panel a scan."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tools.benchmarks.live_run import Run

COLUMNS = 3
STYLES = ("-", "--")
PANEL_IN = (4.2, 3.0)


def plot(runs: Sequence[Run], path: Path) -> None:
    """Draw amplitude (full) and phase (dashed) of each field, and offline (dots)."""
    names = list(dict.fromkeys(run.scan.name for run in runs))
    fields = list(dict.fromkeys(run.field for run in runs))
    rows = -(-len(names) // COLUMNS)
    columns = min(COLUMNS, len(names))
    figure = Figure((PANEL_IN[0] * columns, PANEL_IN[1] * rows), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel, name in zip(panels, names, strict=False):
        for run in runs:
            if run.scan.name == name:
                _draw(panel, run, f"C{fields.index(run.field)}")
        panel.set_title(name)
        panel.set_xlabel("s from the first frame")
        panel.set_ylabel("PSNR / dB")
        panel.legend(fontsize=6)
    for panel in panels[len(names) :]:
        panel.set_visible(False)
    figure.savefig(path, dpi=120)


def _draw(panel: Axes, run: Run, colour: str) -> None:
    at_s = [point.at_s for point in run.curve.points]
    for i, (part, style) in enumerate(zip(("amplitude", "phase"), STYLES, strict=True)):
        values = [point.psnr_db[i] for point in run.curve.points]
        label = f"{run.field}, {part}"
        panel.plot(at_s, values, style, color=colour, label=label)
        if run.offline is not None:
            best = run.offline.psnr_db[i]
            panel.axhline(best, color=colour, linestyle=":", linewidth=1)
    panel.axvline(run.live.last_frame_s, color="grey", linewidth=0.5)
