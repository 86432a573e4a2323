"""How a run went over time, as one picture."""

import io
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ptystream.recon.metrics import Frc

INK, MUTED, GRID = "#1d2330", "#6a7282", "#e3e7ed"
COLOURS = ("#2563a8", "#c8641e", "#4d7c3a")


class Panel(NamedTuple):
    """Columns of the history that share axes."""

    title: str
    columns: Mapping[str, str]
    log: bool = False


PANELS = (
    Panel(
        "Error (share of the light)",
        {"held_out_error": "held out", "flat_error": "empty object", "loss": "loss"},
        log=True,
    ),
    Panel("Frames", {"frames_received": "received", "frames_lost": "lost"}),
    Panel("Steps", {"step": "steps"}),
)


def curves(history: Mapping[str, np.ndarray], frc: Frc | None) -> bytes:
    """Return a PNG: error, frames and steps over time, and the ring correlation.

    Args:
        history: as ``History.columns`` gives it.
        frc: of two halves of the data; None: there is none, and no panel for it.
    """
    count = len(PANELS) + (frc is not None)
    figure = Figure(figsize=(3.75 * count, 2.9), dpi=120, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    time_s = np.asarray(history.get("time_s", ()), float)
    for i, panel in enumerate(PANELS):
        axes = _axes(figure, (1, count, i + 1), panel.title)
        axes.set_xlabel("time since the scan began (s)", color=MUTED, size=8.5)
        _draw(axes, panel, time_s, history)
    if frc is not None:
        _draw_frc(_axes(figure, (1, count, count), "Ring correlation of halves"), frc)
    image = io.BytesIO()
    canvas.print_png(image)
    return image.getvalue()


def _axes(figure: Figure, place: tuple[int, int, int], title: str) -> Axes:
    axes = figure.add_subplot(*place)
    axes.set_title(title, loc="left", size=10, color=INK, weight="bold")
    axes.tick_params(colors=MUTED, labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[:].set_color("#c3c8d0")
    axes.grid(visible=True, axis="y", color=GRID, lw=0.8)
    return axes


def _draw(
    axes: Axes, panel: Panel, time_s: np.ndarray, history: Mapping[str, np.ndarray]
) -> None:
    """Draw what is known of a panel's columns."""
    for (name, label), colour in zip(panel.columns.items(), COLOURS, strict=False):
        values = np.asarray(history.get(name, np.full(len(time_s), np.nan)), float)
        good = np.isfinite(values) & ((values > 0) | (not panel.log))
        if good.any():
            axes.plot(time_s[good], values[good], color=colour, lw=1.6, label=label)
    if not axes.lines:
        axes.text(0.5, 0.5, "not known", transform=axes.transAxes, color=MUTED)
        return
    if panel.log:
        axes.set_yscale("log")
    if len(axes.lines) > 1:
        axes.legend(frameon=False, fontsize=8, labelcolor=INK)


def _draw_frc(axes: Axes, frc: Frc) -> None:
    """Draw the correlation over spatial frequency, with the half-bit threshold."""
    per_um = np.asarray(frc.frequency_per_m) * 1e-6
    axes.plot(per_um, frc.correlation, color=COLOURS[0], lw=1.6, label="halves")
    axes.plot(per_um, frc.threshold(), color=MUTED, lw=1.0, ls="--", label="half-bit")
    axes.set_ylim(min(0.0, float(np.nanmin(frc.correlation))), 1.02)
    axes.set_xlabel("spatial frequency (1/µm)", color=MUTED, size=8.5)
    axes.legend(frameon=False, fontsize=8, labelcolor=INK)
