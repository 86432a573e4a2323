"""A run as one picture: object, probe, and how the quality went."""

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from matplotlib.transforms import Bbox

from ptystream.publish import view
from ptystream.publish.atomic import write_atomic
from ptystream.publish.colour import phase_colours, wheel
from ptystream.publish.files import Result
from ptystream.recon.snapshot import Snapshot

WIDE, HIGH, LEFT = 15.0, 6.95, 0.8
"""Inches."""

MAX_PX = 1500
MAX_MODES = 5
INK, MUTED, UNLIT = "#1d2330", "#6a7282", "#d4d8de"
_ON_DARK: Any = {"size": 8.5, "color": "white", "va": "top", "ha": "left"}
_ON_DARK_SMALL: Any = {**_ON_DARK, "size": 6.5}
BLUE, ORANGE = "#2563a8", "#c8641e"

_CYCLE = LinearSegmentedColormap.from_list(
    "phase", phase_colours(np.linspace(-np.pi, np.pi, 256))
)
_Box = tuple[float, float, float, float]
_UNITS = ((1e-3, "mm", 1e3), (1e-6, "µm", 1e6), (1e-9, "nm", 1e9))


@dataclass(frozen=True, slots=True)
class _Plane:
    """The lit part of the object, ready to draw; ``extent`` in ``unit``."""

    amplitude: np.ma.MaskedArray[Any, Any]
    phase: np.ma.MaskedArray[Any, Any]
    extent: tuple[float, float, float, float]
    unit: str


def draw(
    shown: Result | Snapshot,
    history: Mapping[str, np.ndarray],
    path: Path,
    title: str,
) -> None:
    """Write a PNG, atomically; safe in any thread.

    Slices are multiplied; the phase has its mean and ramp over the lit area removed;
    what the scan did not light is grey. ``history`` as History.columns gives it.
    """
    figure = Figure(figsize=(WIDE, HIGH), dpi=120, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    heading = figure.text(LEFT / WIDE, 6.6 / HIGH, title, size=15, va="center")
    heading.set(weight="bold", color=INK, parse_math=False)
    below = figure.text(LEFT / WIDE, 6.25 / HIGH, _subtitle(shown), va="center")
    below.set(size=10, color=MUTED)
    _draw_object(figure, _plane(shown))
    _draw_probe(figure, shown)
    _draw_quality(figure.add_axes(_at(11.0, 0.58, 3.05, 1.42)), history)
    image = io.BytesIO()
    canvas.print_png(image)
    write_atomic(path, image.getbuffer())


def _at(left: float, bottom: float, width: float, height: float) -> _Box:
    """Return a place given in inches as the fractions that matplotlib wants."""
    return left / WIDE, bottom / HIGH, width / WIDE, height / HIGH


def _subtitle(shown: Result | Snapshot) -> str:
    slices, h, w = shown.object.shape
    pixel_nm = " \N{MULTIPLICATION SIGN} ".join(
        f"{p * 1e9:.3g}" for p in dict.fromkeys(shown.pixel_m)
    )
    parts = [f"{h} \N{MULTIPLICATION SIGN} {w} px of {pixel_nm} nm"]
    if slices > 1:
        parts.append(f"{slices} slices, multiplied")
    if isinstance(shown, Snapshot):
        parts += [f"step {shown.step}", f"{shown.exposures} exposures"]
    return "   ·   ".join(parts)


def _plane(shown: Result | Snapshot) -> _Plane:
    obj = view.projection(shown.object)
    coverage = shown.coverage
    mask = np.ones(obj.shape, bool) if coverage is None else view.lit(coverage)
    mask = mask if mask.any() else np.ones(obj.shape, bool)
    flat = view.flatten(obj, mask)
    top, bottom, left, right = _frame(mask)
    flat, mask = flat[top:bottom, left:right], mask[top:bottom, left:right]
    factor = view.shrink_factor(flat.shape, MAX_PX)
    dark = view.shrink(mask.astype(np.float32), factor) < 0.5
    (dy, dx), (oy, ox) = shown.pixel_m, shown.origin_m
    unit, per_m = _unit(max((bottom - top) * dy, (right - left) * dx))
    edges = (ox + (left - 0.5) * dx, ox + (right - 0.5) * dx)
    ends = (oy + (bottom - 0.5) * dy, oy + (top - 0.5) * dy)
    return _Plane(
        np.ma.array(view.shrink(np.abs(flat), factor), mask=dark),
        np.ma.array(np.angle(view.shrink(flat, factor)), mask=dark),
        (edges[0] * per_m, edges[1] * per_m, ends[0] * per_m, ends[1] * per_m),
        unit,
    )


def _frame(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Return the lit bounding box with a margin of 3 %: top, bottom, left, right."""
    rows, cols = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    margin = 2 + int(0.03 * max(np.ptp(rows), np.ptp(cols)))
    h, w = mask.shape
    return (
        max(0, int(rows[0]) - margin),
        min(h, int(rows[-1]) + 1 + margin),
        max(0, int(cols[0]) - margin),
        min(w, int(cols[-1]) + 1 + margin),
    )


def _unit(length_m: float) -> tuple[str, float]:
    """Return the unit in which the length is 1 to 1000, and how many make a metre."""
    for size_m, name, per_m in _UNITS:
        if length_m >= size_m:
            return name, per_m
    return "pm", 1e12


def _boxes(extent: tuple[float, float, float, float]) -> tuple[_Box, _Box]:
    """Return where amplitude and phase go: a wide object one above the other."""
    left, right, bottom, top = extent
    if abs(right - left) > 2.4 * abs(bottom - top):
        return _at(LEFT, 3.4, 9.35, 1.95), _at(LEFT, 0.55, 9.35, 1.95)
    return _at(LEFT, 0.6, 4.5, 4.75), _at(5.65, 0.6, 4.5, 4.75)


def _draw_object(figure: Figure, plane: _Plane) -> None:
    first, second = _boxes(plane.extent)
    amplitude = figure.add_axes(first, anchor="NW")
    shown = _show(amplitude, plane, plane.amplitude, "gray", _limits(plane.amplitude))
    _bar(figure, amplitude, shown, "")
    amplitude.set_title("Object amplitude", **_heading(pad=29))
    amplitude.set_ylabel(f"y ({plane.unit})", color=MUTED)
    phase = figure.add_axes(second, anchor="NW", sharex=amplitude, sharey=amplitude)
    colours, limits = _phase_scale(plane.phase)
    shown = _show(phase, plane, plane.phase, colours, limits)
    _bar(figure, phase, shown, "rad")
    phase.set_title("Object phase", **_heading(pad=29))
    if first[0] == second[0]:
        amplitude.set_xlabel("")
        phase.set_ylabel(f"y ({plane.unit})", color=MUTED)
    else:
        phase.tick_params(labelleft=False)
    _scale_bar(amplitude, plane)
    _scale_bar(phase, plane)


def _phase_scale(phase: np.ma.MaskedArray[Any, Any]) -> tuple[Any, tuple[float, float]]:
    """Return the cyclic map for a phase that wraps, a plain one for a weaker phase.

    A weak phase on a cyclic map of 2π would be one flat colour.
    """
    low, high = _limits(phase)
    if high - low > 4.0:
        return _CYCLE, (-np.pi, np.pi)
    return "cividis", (low, high)


def _show(
    axes: Axes, plane: _Plane, values: Any, colours: Any, limits: tuple[float, float]
) -> Any:
    axes.set_facecolor(UNLIT)
    _style(axes)
    axes.set_xlabel(f"x ({plane.unit})", color=MUTED)
    return axes.imshow(
        values,
        cmap=colours,
        vmin=limits[0],
        vmax=limits[1],
        extent=plane.extent,
        interpolation="antialiased",
    )


def _bar(figure: Figure, axes: Axes, shown: Any, label: str) -> None:
    box = axes.inset_axes((0.0, 1.0, 1.0, 0.0))
    box.set_axes_locator(_Above(axes))
    bar = figure.colorbar(shown, cax=box, orientation="horizontal")
    bar.outline.set_visible(False)  # type: ignore[operator]
    box.xaxis.set_ticks_position("top")
    box.xaxis.set_major_locator(MaxNLocator(6))
    box.tick_params(labelsize=8, colors=MUTED, length=2, pad=1)
    box.annotate(
        label,
        (1, 1),
        xytext=(0, 14),
        textcoords="offset points",
        xycoords="axes fraction",
        size=8.5,
        color=MUTED,
        ha="right",
    )


class _Above:
    """Places a colour bar of fixed height above axes, whatever their shape becomes."""

    def __init__(self, axes: Axes) -> None:
        self._axes = axes

    def __call__(self, box: Any, renderer: Any) -> Bbox:
        place = self._axes.get_position()
        return Bbox.from_bounds(
            place.x0, place.y1 + 0.06 / HIGH, place.width, 0.1 / HIGH
        )


def _scale_bar(axes: Axes, plane: _Plane) -> None:
    left, right, bottom, top = plane.extent
    length = _round_length((right - left) / 4)
    x, y = left + 0.05 * (right - left), bottom + 0.06 * (top - bottom)
    height = 0.01 * max(abs(top - bottom), right - left)
    axes.add_patch(
        Rectangle(
            (x, y - height / 2),
            length,
            height,
            facecolor="white",
            edgecolor=INK,
            linewidth=0.8,
        )
    )
    axes.annotate(
        f"{length:g} {plane.unit}",
        (x + length / 2, y),
        xytext=(0, 5),
        textcoords="offset points",
        ha="center",
        va="bottom",
        size=9,
        weight="bold",
        color=INK,
        bbox={
            "boxstyle": "round,pad=0.2",
            "facecolor": "white",
            "alpha": 0.75,
            "linewidth": 0,
        },
    )


def _round_length(length: float) -> float:
    """Return the largest of 1, 2, 5 times a power of ten that is not longer."""
    power = 10.0 ** math.floor(math.log10(length))
    return max(n * power for n in (1, 2, 5) if n * power <= length * (1 + 1e-9))


def _draw_probe(figure: Figure, shown: Result | Snapshot) -> None:
    modes = np.nan_to_num(shown.probe)
    power = (np.abs(modes) ** 2).sum((1, 2))
    percent = 100 * power / max(float(power.sum()), 1e-30)
    axes = figure.add_axes(_at(10.8, 3.05, 2.3, 2.3), anchor="NW")
    _show_mode(axes, modes[0])
    width_m = modes.shape[2] * shown.pixel_m[1]
    unit, per_m = _unit(width_m)
    axes.set_title(f"Probe, {width_m * per_m:.3g} {unit} wide", **_heading())
    legend = figure.add_axes(_at(13.4, 4.4, 0.9, 0.9))
    legend.imshow(wheel(), interpolation="bilinear")
    legend.set_axis_off()
    legend.text(0.5, -0.06, "hue: phase", **_caption(legend))
    legend.text(0.5, -0.21, "light: amplitude", **_caption(legend))
    if len(modes) == 1:
        return
    axes.text(0.03, 0.97, f"{percent[0]:.0f} %", transform=axes.transAxes, **_ON_DARK)
    for i in range(1, min(len(modes), MAX_MODES)):
        small = figure.add_axes(_at(10.8 + 0.58 * (i - 1), 2.46, 0.55, 0.55))
        _show_mode(small, modes[i])
        text = f"{percent[i]:.1f} %"
        small.text(0.06, 0.93, text, transform=small.transAxes, **_ON_DARK_SMALL)


def _show_mode(axes: Axes, mode: np.ndarray) -> None:
    amplitude = np.abs(mode)
    strength = (amplitude / max(float(amplitude.max()), 1e-30)) ** 0.8
    axes.imshow(phase_colours(np.angle(mode), strength), interpolation="antialiased")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def _draw_quality(axes: Axes, history: Mapping[str, np.ndarray]) -> None:
    axes.set_title("Held-out error", **_heading())
    _style(axes)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("time since the scan began (s)", color=MUTED)
    time_s = np.asarray(history.get("time_s", ()), float)
    drawn = False
    for name, colour, dashes, label in (
        ("flat_error", ORANGE, (4, 2), "empty object"),
        ("held_out_error", BLUE, (None, None), "reconstruction"),
    ):
        values = np.asarray(history.get(name, ()), float)
        good = np.isfinite(values) & (values > 0) if len(values) else np.zeros(0, bool)
        if not good.any():
            continue
        line = axes.plot(time_s[good], values[good], color=colour, lw=1.8)[0]
        line.set_dashes(dashes)
        line.set_label(f"{label}: {values[good][-1]:.3g}")
        drawn = True
    if not drawn:
        axes.text(0.5, 0.5, "not known yet", ha="center", va="center", color=MUTED)
        axes.set_yticks([])
        return
    _scale_error(axes)
    axes.legend(frameon=False, fontsize=9, labelcolor=INK, loc="upper right")
    _draw_covered(axes, time_s, np.asarray(history.get("covered", ()), float))


def _scale_error(axes: Axes) -> None:
    """Use a log scale if the values span it; leave room for the legend."""
    low, high = axes.dataLim.y0, axes.dataLim.y1
    if high > 3 * low:
        axes.set_yscale("log")
        axes.set_ylim(low / 1.3, high * (high / low) ** 0.6)
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    else:
        axes.set_ylim(0, 1.5 * high)
    axes.grid(visible=True, axis="y", which="major", color="#e3e7ed", lw=0.8)


def _draw_covered(axes: Axes, time_s: np.ndarray, covered: np.ndarray) -> None:
    """Shade the share of the scan that was lit, on a scale of its own."""
    if len(covered) != len(time_s) or not np.isfinite(covered).any():
        return
    right = axes.twinx()
    right.set_zorder(axes.get_zorder() - 1)
    axes.patch.set_visible(False)
    right.fill_between(time_s, covered, color="#eef2f7", lw=0)
    right.set_ylim(0, 1)
    right.set_yticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])
    right.tick_params(colors=MUTED, labelsize=8, length=0)
    right.set_ylabel("covered (shade)", color=MUTED, size=8)
    right.spines[:].set_visible(False)


def _limits(
    values: np.ma.MaskedArray[Any, Any], cut: float = 0.3
) -> tuple[float, float]:
    """Return the range without the ``cut`` percent at either end."""
    inside = values.compressed()
    low, high = np.percentile(inside, (cut, 100 - cut)) if inside.size else (0.0, 1.0)
    return (float(low), float(high)) if high > low else (float(low) - 1, float(low) + 1)


def _style(axes: Axes) -> None:
    axes.tick_params(colors=MUTED, labelsize=8.5, length=3, which="both")
    axes.spines[:].set_color("#c3c8d0")
    axes.spines[:].set_linewidth(0.8)


def _heading(pad: float = 8) -> dict[str, Any]:
    return {"loc": "left", "size": 11.5, "color": INK, "pad": pad, "weight": "bold"}


def _caption(axes: Axes) -> dict[str, Any]:
    return {
        "transform": axes.transAxes,
        "size": 7.5,
        "color": MUTED,
        "ha": "center",
        "va": "top",
    }
