"""The page's Bokeh models: maps, probe, pattern and curves; data come later."""

from dataclasses import dataclass
from itertools import cycle
from typing import Any

import numpy as np
from bokeh.models import (
    BasicTicker,
    ColorBar,
    ColumnDataSource,
    CustomJSHover,
    HoverTool,
    Legend,
    LinearColorMapper,
    Metric,
    PanTool,
    Range1d,
    ScaleBar,
    WheelZoomTool,
)
from bokeh.palettes import Cividis256, Greys256, Viridis256
from bokeh.plotting import figure

from ptystream.dashboard.curves import COLUMNS
from ptystream.publish.colour import phase_colours

CLEAR = "rgba(0,0,0,0)"
UNLIT = "#d4d8de"
"""Where no light fell; the page replaces it by its theme's."""
BARE: dict[str, Any] = {
    "border_fill_color": None,
    "border_line_color": None,
    "outline_line_color": None,
}
"""The card shows through. What Bokeh paints once at a canvas' edge it never clears."""
_VALUE = """
const {low, high} = source.data
return (low[0] + (value / 255) * (high[0] - low[0])).toPrecision(3)
"""
COLUMNS_OF_A_MAP = ("image", "x", "y", "dw", "dh", "low", "high", "lo", "hi")
"""Its codes, box, the values of codes 0 and 255, and the contrast to begin with."""


def cyclic() -> list[str]:
    """Return 256 colours around the circle, all equally light."""
    rgb = phase_colours(np.linspace(-np.pi, np.pi, 256, endpoint=False))
    return [f"#{r:02x}{g:02x}{b:02x}" for r, g, b in np.round(255 * rgb).astype(int)]


PALETTES: dict[str, list[str]] = {
    "amplitude": list(Greys256),
    "phase": list(Cividis256),
    "coverage": list(Viridis256),
    "confidence": list(Cividis256),
    "pattern": list(Viridis256),
}
CYCLIC = cyclic()


@dataclass(frozen=True)
class Chart:
    """A figure and the source of what it shows."""

    figure: Any
    source: ColumnDataSource


def map_chart(name: str) -> Chart:
    """Return a map; the page's script gives it limits, zoom and theme.

    Codes 0 to 255 are coloured by one mapper, the colour bar by another of the same
    colours with the limits in real units: codes take a quarter of the bytes.
    """
    plot = _figure(name, tools=[PanTool(), WheelZoomTool(zoom_on_axis=False)])
    source = ColumnDataSource(
        {column: [] for column in COLUMNS_OF_A_MAP}, name=f"{name}_source"
    )
    colours = LinearColorMapper(
        palette=PALETTES[name], low=0, high=255, name=f"{name}_colours"
    )
    drawn = plot.image(
        "image", "x", "y", "dw", "dh", source=source, color_mapper=colours
    )
    scale = LinearColorMapper(
        palette=PALETTES[name], low=0, high=1, name=f"{name}_scale"
    )
    if name == "phase":
        scale.tags = [{"cyclic": CYCLIC, "plain": PALETTES[name]}]
    plot.add_layout(_bar(scale), "right")
    plot.add_tools(_hover(drawn, source))
    return Chart(plot, source)


def shade(chart: Chart, coverage: ColumnDataSource) -> None:
    """Cover what is not lit with the page's own grey; the coverage says where."""
    mapper = LinearColorMapper(palette=[UNLIT, CLEAR], low=0, high=2)
    mapper.name = f"{chart.figure.name}_unlit"
    chart.figure.image(
        "image", "x", "y", "dw", "dh", source=coverage, color_mapper=mapper
    )


def scale_bar(chart: Chart) -> None:
    """Add a scale bar; its unit is set with the data."""
    bar = ScaleBar(
        range=chart.figure.x_range,
        unit="µm",
        dimensional=Metric(base_unit="m"),
        orientation="horizontal",
        location="bottom_left",
        length_sizing="adaptive",
        bar_length=0.2,
        label_text_font_size="12px",
        background_fill_alpha=0.6,
        background_fill_color="#10141a",
        bar_line_color="white",
        label_text_color="white",
        border_line_color=None,
        padding=6,
        margin=8,
        name=f"{chart.figure.name}_ruler",
    )
    chart.figure.add_layout(bar)


def path_layer(chart: Chart) -> tuple[ColumnDataSource, ColumnDataSource]:
    """Draw where exposures were taken over a map, and the newest of them."""
    path = ColumnDataSource({"x": [], "y": []}, name="path_source")
    here = ColumnDataSource({"x": [], "y": []}, name="here_source")
    chart.figure.line("x", "y", source=path, line_color="white", line_alpha=0.25)
    chart.figure.scatter("x", "y", source=path, size=1.5, color="white", alpha=0.4)
    chart.figure.scatter(
        "x", "y", source=here, size=13, fill_color="#ff3b6b", line_color="white"
    )
    return path, here


def probe_chart() -> tuple[Chart, ColumnDataSource]:
    """Return the probe's modes side by side, and the source of their labels."""
    plot = _figure("probe", tools=[PanTool(), WheelZoomTool(zoom_on_axis=False)])
    source = ColumnDataSource({"image": [], "x": [], "y": [], "dw": [], "dh": []})
    source.name = "probe_source"
    plot.image_rgba("image", "x", "y", "dw", "dh", source=source)
    labels = ColumnDataSource({"x": [], "y": [], "text": []}, name="modes_source")
    plot.text(
        "x", "y", "text", source=labels, text_color="white", text_font_size="12px",
        x_offset=5, y_offset=5, text_baseline="top",
    )  # fmt: skip
    plot.axis.visible = False
    plot.min_border_left = plot.min_border_right = 6
    return Chart(plot, source), labels


def pattern_chart() -> Chart:
    """Return the newest pattern, its prediction to the right."""
    chart = map_chart("pattern")
    chart.figure.axis.visible = False
    chart.figure.min_border_left = 6
    return chart


def curve_source() -> ColumnDataSource:
    """Return the source that all curves share."""
    return ColumnDataSource({name: [] for name in COLUMNS}, name="curves_source")


def curve_chart(
    name: str,
    source: ColumnDataSource,
    lines: dict[str, str],
    *,
    log: bool = False,
) -> Any:
    """Return curves over time; ``lines`` are columns and what the legend calls them."""
    plot = figure(
        name=name,
        y_axis_type="log" if log else "linear",
        x_range=Range1d(start=0, end=10),
        y_range=Range1d(start=1e-3 if log else 0, end=1),
        sizing_mode="stretch_both",
        toolbar_location=None,
        **BARE,
        tools="",
        min_border_left=58,
        min_border_right=14,
    )
    drawn = [
        plot.line("time_s", column, source=source, line_width=2, line_dash=dash)
        for column, dash in zip(
            lines, cycle(("solid", "solid", "dashed", "dotted")), strict=False
        )
    ]
    for i, line in enumerate(drawn):
        line.tags = [f"line-{i}"]
    if len(lines) > 1:
        items = [
            (label, [line]) for label, line in zip(lines.values(), drawn, strict=True)
        ]
        plot.add_layout(_legend(items), "above")
    plot.xaxis.axis_label = "s since the scan began"
    plot.xaxis.ticker = BasicTicker(desired_num_ticks=5)
    if not log:
        plot.yaxis.ticker = BasicTicker(desired_num_ticks=4)
    plot.xgrid.visible = False
    return plot


def span(values: np.ndarray, *, log: bool) -> tuple[float, float] | None:
    """Return the range that shows these values; None if none is finite.

    Bokeh's own ranges complain in the browser's console while there is nothing.
    """
    known = values[np.isfinite(values) & ((values > 0) | (not log))]
    if not known.size:
        return None
    low, high = float(known.min()), float(known.max())
    if log:
        return low / 1.5, high * max(1.5, (high / low) ** 0.35)
    return min(0.0, low), (1.15 * high if high > 0 else 1.0)


def _figure(name: str, tools: list[Any]) -> Any:
    plot = figure(
        name=name,
        x_range=Range1d(start=0, end=1),
        y_range=Range1d(start=1, end=0),
        sizing_mode="stretch_both",
        toolbar_location=None,
        **BARE,
        tools=tools,
        active_scroll=tools[-1],
        min_border_left=58,
        min_border_right=64,
    )
    plot.grid.visible = False
    plot.axis.ticker = BasicTicker(desired_num_ticks=5)
    return plot


def _legend(items: list[tuple[str, list[Any]]]) -> Legend:
    return Legend(
        items=items,
        orientation="horizontal",
        background_fill_alpha=0.0,
        border_line_color=None,
        margin=2,
        spacing=12,
        glyph_width=16,
    )


def _bar(scale: LinearColorMapper) -> ColorBar:
    return ColorBar(
        color_mapper=scale,
        width=10,
        padding=0,
        margin=8,
        ticker=BasicTicker(desired_num_ticks=5),
        bar_line_color=None,
        major_tick_line_color=None,
        background_fill_alpha=0.0,
        label_standoff=5,
    )


def _hover(drawn: Any, source: ColumnDataSource) -> HoverTool:
    value = CustomJSHover(args={"source": source}, code=_VALUE)
    return HoverTool(
        renderers=[drawn],
        tooltips=[("x", "$x{0.000}"), ("y", "$y{0.000}"), ("value", "@image{custom}")],
        formatters={"@image": value},
    )
