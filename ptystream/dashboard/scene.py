"""A preview made ready for the browser, once for all who watch: plain numpy."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ptystream.publish import view
from ptystream.publish.colour import phase_colours
from ptystream.publish.images import Image, Picture

MAX_PX = 512
"""Longest side of a map in the browser; what is larger is averaged."""
PROBE_PX = 128
MODES = 4
GAP = 0.08
"""Between two probe modes, of their width."""
MAPS = ("object_amplitude", "object_phase", "coverage", "confidence")


@dataclass(frozen=True, slots=True)
class Map:
    """Codes uint8 ``[h, w]`` that stand for ``low`` to ``high``.

    ``limits`` is the contrast to begin with, ``box_m`` the outer edges: left, top,
    width, height.
    """

    codes: np.ndarray
    low: float
    high: float
    limits: tuple[float, float]
    box_m: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Probe:
    """Modes side by side as RGBA ``[h, w]`` uint32, and each one's share of the light.

    Hue is phase, lightness amplitude; ``size_m`` is height and width of one mode.
    """

    rgba: np.ndarray
    size_m: tuple[float, float]
    shares: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Scene:
    """All that the newest preview shows; what it lacks is absent.

    ``lit`` is the coverage from which a place counts as lit, ``places_m`` ``[n, 2]``
    (y, x) of which the last is the newest, ``pattern`` log10(1 + photons) measured and
    predicted, side by side.
    """

    run: str = ""
    step: int = 0
    maps: Mapping[str, Map] = field(default_factory=dict)
    lit: float = 0.0
    probe: Probe | None = None
    places_m: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), np.float32))
    pattern: Map | None = None


def scene(picture: Picture) -> Scene:
    """Return what a preview shows; ValueError if its layers have no sense."""
    layers = {image.name: image for image in picture.images}
    coverage = layers.get("coverage")
    lit, level = None, 0.0
    if coverage is not None:
        values = coverage.values()
        lit = view.lit(values)
        level = float(values[lit].min()) if lit.any() else 0.0
    places = layers.get("places")
    return Scene(
        run=str(picture.about.get("run", "")),
        step=_step(picture.about),
        maps={n: _map(layers[n], lit) for n in MAPS if n in layers},
        lit=level,
        probe=_probe(layers),
        places_m=_places(places) if places else np.zeros((0, 2), np.float32),
        pattern=_pattern(layers["pattern"]) if "pattern" in layers else None,
    )


def _step(about: Mapping[str, Any]) -> int:
    step = about.get("step", 0)
    return step if isinstance(step, int) else 0


def _map(image: Image, lit: np.ndarray | None) -> Map:
    """Return one layer with the contrast that suits what is lit."""
    plane = _plane(image)
    mask = lit if lit is not None and lit.shape == plane.shape else None
    factor = view.shrink_factor(plane.shape, MAX_PX)
    small = view.shrink(np.nan_to_num(plane), factor).astype(np.float32)
    inside = plane if mask is None or not mask.any() else plane[mask]
    (dy, dx), (oy, ox) = image.pixel_m, image.origin_m
    h, w = plane.shape
    return Map(
        _codes(small, image.low, image.high),
        image.low,
        image.high,
        _limits(image, inside),
        (ox - dx / 2, oy - dy / 2, w * dx, h * dy),
    )


def _plane(image: Image) -> np.ndarray:
    values = image.values()
    if values.ndim != 2 or not values.size or not image.high > image.low:
        raise ValueError(
            f"layer {image.name}: shape {values.shape}, {image.low} to {image.high}; "
            "expected [h, w] and a range"
        )
    return values


def _codes(values: np.ndarray, low: float, high: float) -> np.ndarray:
    scaled = (np.clip(values, low, high) - low) * (255 / (high - low))
    return np.round(scaled).astype(np.uint8)


def _limits(image: Image, inside: np.ndarray) -> tuple[float, float]:
    """Return the contrast without the outermost 0.3 % of what is lit, at either end."""
    if image.name == "confidence":
        return 0.0, 1.0
    low, high = np.nanpercentile(inside, (0.3, 99.7)).tolist()
    low = 0.0 if image.name == "coverage" else low
    return (low, high) if high > low else (image.low, image.high)


def _probe(layers: Mapping[str, Image]) -> Probe | None:
    """Return the modes, coloured."""
    amplitude, phase = layers.get("probe_amplitude"), layers.get("probe_phase")
    if amplitude is None or phase is None:
        return None
    size, turn = amplitude.values()[:MODES], phase.values()[:MODES]
    if size.ndim != 3 or size.shape != turn.shape or not size.size:
        raise ValueError(f"probe of shape {size.shape}: expected [modes, h, w]")
    power = (size.astype(np.float64) ** 2).sum((1, 2))
    factor = view.shrink_factor(size.shape, PROBE_PX)
    modes = view.shrink(size * np.exp(1j * turn), factor)
    return Probe(
        _side_by_side(modes),
        (size.shape[1] * amplitude.pixel_m[0], size.shape[2] * amplitude.pixel_m[1]),
        tuple((power / max(float(power.sum()), 1e-30)).tolist()),
    )


def _side_by_side(modes: np.ndarray) -> np.ndarray:
    """Return ``[h, w]`` uint32 with clear gaps; each mode has its own brightness."""
    n, h, w = modes.shape
    gap = max(1, round(GAP * w))
    out = np.zeros((h, n * w + (n - 1) * gap, 4), np.uint8)
    for i, mode in enumerate(modes):
        strength = np.abs(mode) / max(float(np.abs(mode).max()), 1e-30)
        left = i * (w + gap)
        out[:, left : left + w, :3] = 255 * phase_colours(np.angle(mode), strength**0.8)
        out[:, left : left + w, 3] = 255
    return out.view(np.uint32)[..., 0]


def _places(image: Image) -> np.ndarray:
    """Return the finite places."""
    values = image.values()
    if values.ndim != 2 or values.shape[1] != 2:
        raise ValueError(f"places of shape {values.shape}: expected [n, 2]")
    return values[np.isfinite(values).all(1)]


def _pattern(image: Image) -> Map:
    """Return both patterns side by side, with a gap of two pixels; edges in pixels."""
    values = image.values()
    if values.ndim != 3 or len(values) != 2 or not values.size:
        raise ValueError(f"pattern of shape {values.shape}: expected [2, k, k]")
    k = values.shape[1]
    gap = np.full((k, 2), image.low, np.float32)
    both = np.hstack([values[0], gap, values[1]])
    factor = float(image.pixel_m[1])
    high = float(np.percentile(values[0], 99.9)) or image.high
    h, w = both.shape
    return Map(
        _codes(both, image.low, image.high),
        image.low,
        image.high,
        (image.low, high if high > image.low else image.high),
        (-w * factor / 2, -h * factor / 2, w * factor, h * factor),
    )
