"""One browser's document: the plots, and one callback that keeps them new."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from bokeh.document import Document
from bokeh.models import ScaleBar
from jinja2 import Template

from ptystream.dashboard import plots
from ptystream.dashboard.feed import Heard
from ptystream.dashboard.scene import GAP, Map, Probe, Scene

PAGE = Path(__file__).parent / "page"
UPDATE_MS = 250
SHOWN = {
    "amplitude": "object_amplitude",
    "phase": "object_phase",
    "coverage": "coverage",
    "confidence": "confidence",
}
"""A map's name on the page, and its layer in the preview."""
CURVES = {
    "error": (
        {
            "held_out_error": "held-out",
            "loss": "training",
            "flat_error": "empty object",
            "noise_error": "photon noise",
        },
        True,
    ),
    "resolution": ({"resolution_nm": ""}, False),
    "rate": ({"frames_per_s": ""}, False),
    "lag": ({"lag_ms": ""}, False),
    "lost": ({"lost": ""}, False),
}


class Session:
    """Fills a document and updates it; what has not changed is not sent."""

    def __init__(
        self, heard: Callable[[], Heard], newest: Callable[[Heard], Scene | None]
    ) -> None:
        self._heard, self._newest = heard, newest
        self._seen = self._version = 0
        self._unit: tuple[str, float] | None = None
        self.maps = {name: plots.map_chart(name) for name in SHOWN}
        for name in ("amplitude", "phase", "confidence"):
            plots.shade(self.maps[name], self.maps["coverage"].source)
        for name in ("amplitude", "phase"):
            plots.scale_bar(self.maps[name])
        self.path, self.here = plots.path_layer(self.maps["coverage"])
        self.probe, self.modes = plots.probe_chart()
        plots.scale_bar(self.probe)
        self.pattern = plots.pattern_chart()
        self.curves = plots.curve_source()
        self.lines = {
            name: plots.curve_chart(name, self.curves, columns, log=log)
            for name, (columns, log) in CURVES.items()
        }

    def fill(self, document: Document, boot: str) -> None:
        """Add everything to a new document, and keep it up to date."""
        charts = [*self.maps.values(), self.probe, self.pattern]
        for root in (*(chart.figure for chart in charts), *self.lines.values()):
            document.add_root(root)
        document.title = "ptystream"
        document.template = page("index.html")
        document.template_variables.update(boot=boot)
        document.config.notify_connection_status = False
        self.update()
        document.add_periodic_callback(self.update, UPDATE_MS)

    def update(self) -> None:
        """Send what is new."""
        heard = self._heard()
        if heard.version != self._version:
            self._version = heard.version
            self._draw(heard.curves)
        if heard.seen != self._seen:
            self._seen = heard.seen
            scene = self._newest(heard)
            if scene is not None:
                self._show(scene)

    def _draw(self, curves: Mapping[str, np.ndarray]) -> None:
        """Send the curves, and ranges that hold them."""
        self.curves.data = dict(curves)
        time_s = plots.span(curves["time_s"], log=False)
        for name, (columns, log) in CURVES.items():
            values = np.concatenate([curves[column] for column in columns])
            ranges = self.lines[name].x_range, self.lines[name].y_range
            for axis, ends in zip(
                ranges, (time_s, plots.span(values, log=log)), strict=True
            ):
                if ends is not None:
                    axis.update(start=ends[0], end=ends[1])

    def _show(self, scene: Scene) -> None:
        """Send one scene."""
        per_m = self._measure(scene)
        for name, layer in SHOWN.items():
            data = _columns(scene.maps.get(layer), per_m, scene.run, scene.lit)
            self.maps[name].source.data = data
        places = scene.places_m * per_m
        self.path.data = {"x": places[:, 1], "y": places[:, 0]}
        self.here.data = {"x": places[-1:, 1], "y": places[-1:, 0]}
        if scene.probe is not None:
            self._show_probe(scene.probe, per_m, scene.run)
        if scene.pattern is not None:
            self.pattern.source.data = _columns(scene.pattern, 1.0, scene.run)

    def _show_probe(self, probe: Probe, per_m: float, run: str) -> None:
        h, w = (size * per_m for size in probe.size_m)
        n = len(probe.shares)
        wide = w * (n + (n - 1) * GAP)
        self.probe.source.data = {
            "image": [probe.rgba],
            "x": [0.0],
            "y": [0.0],
            "dw": [wide],
            "dh": [h],
            "run": [run],
        }
        lefts = np.arange(n) * w * (1 + GAP)
        texts = [f"{share:.0%}" if n > 1 else "" for share in probe.shares]
        self.modes.data = {"x": lefts, "y": np.zeros(n), "text": texts}

    def _measure(self, scene: Scene) -> float:
        """Return how many of the unit of the maps make a metre; name it on them."""
        shown = scene.maps.get("object_amplitude")
        width_m = max(shown.box_m[2:]) if shown else 1e-6
        unit = ("nm", 1e9) if width_m < 0.5e-6 else ("µm", 1e6)
        if unit != self._unit:
            self._unit = unit
            for chart in self.maps.values():
                chart.figure.xaxis.axis_label = f"x ({unit[0]})"
                chart.figure.yaxis.axis_label = f"y ({unit[0]})"
            for chart in (*self.maps.values(), self.probe):
                for bar in chart.figure.select(ScaleBar):
                    bar.unit = unit[0]
        return unit[1]


def page(name: str) -> Template:
    """Return a template of the page; nothing that a stranger wrote goes into one."""
    return Template((PAGE / name).read_text("utf-8"))


def _columns(
    shown: Map | None, per_m: float, run: str, lit: float = 0.0
) -> dict[str, Any]:
    """Return a map as its source holds it; all columns empty for none."""
    names = (*plots.COLUMNS_OF_A_MAP, "run", "lit")
    if shown is None:
        return {name: [] for name in names}
    x, y, dw, dh = (v * per_m for v in shown.box_m)
    values = (shown.codes, x, y, dw, dh, shown.low, shown.high, *shown.limits, run, lit)
    return {name: [value] for name, value in zip(names, values, strict=True)}
