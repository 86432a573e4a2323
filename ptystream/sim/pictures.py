"""Test pictures in [0, 1], any size: drawn from a seed, or read from a file.

Each is drawn twice as fine as asked and averaged in blocks of two, so that edges are
sharp without being jagged.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Float64
from numpy.random import Generator

from ptystream.errors import ConfigError

Picture = Float64[np.ndarray, "h w"]
Level = float | Picture


def picture(source: str, shape: tuple[int, int], seed: int = 0) -> Picture:
    """Return the named picture, or the image file, at this shape.

    Raises:
        ConfigError: ``source`` is neither a name in ``PAINTERS`` nor a readable image.
    """
    painter = PAINTERS.get(source)
    if painter is None:
        return _load(source, shape)
    fine = painter((2 * shape[0], 2 * shape[1]), np.random.default_rng(seed))
    coarse = fine.reshape(shape[0], 2, shape[1], 2).mean(axis=(1, 3))
    return _stretch(coarse)


def resize(image: Picture, shape: tuple[int, int]) -> Picture:
    """Resample; the triangle filter widens when shrinking, so that nothing aliases."""
    rows = _triangle(image.shape[0], shape[0])
    return rows @ image @ _triangle(image.shape[1], shape[1]).T


def _load(source: str, shape: tuple[int, int]) -> Picture:
    from matplotlib.image import imread

    try:
        raw = np.load(source) if source.endswith(".npy") else imread(source)
        image = np.asarray(raw, np.float64)
    except (OSError, ValueError, SyntaxError) as e:
        names = ", ".join(sorted(PAINTERS))
        raise ConfigError(
            f"picture {source!r}: expected one of {names}, or an image file ({e})"
        ) from e
    if image.ndim == 3:
        # Rec. 601 luma; an alpha channel is ignored.
        image = image[..., :3] @ np.array([0.299, 0.587, 0.114])[: image.shape[2]]
    if image.ndim != 2 or min(image.shape) < 2 or not np.isfinite(image).all():
        raise ConfigError(f"picture {Path(source).name}: expected a finite 2-D image")
    return _stretch(resize(_cropped_to_aspect(image, shape), shape))


def _cropped_to_aspect(image: Picture, shape: tuple[int, int]) -> Picture:
    """Cut the middle that has the aspect of the canvas: no picture is squeezed."""
    scale = min(image.shape[0] / shape[0], image.shape[1] / shape[1])
    h, w = (max(2, round(scale * side)) for side in shape)
    y, x = (image.shape[0] - h) // 2, (image.shape[1] - w) // 2
    return image[y : y + h, x : x + w]


def _triangle(source: int, target: int) -> Float64[np.ndarray, "target source"]:
    scale = source / target
    centres = (np.arange(target)[:, None] + 0.5) * scale - 0.5
    weights = 1 - np.abs(np.arange(source) - centres) / max(scale, 1.0)
    weights = np.clip(weights, 0, None)
    return weights / weights.sum(axis=1, keepdims=True)


def _stretch(image: Picture) -> Picture:
    """Map the 0.5 and 99.5 percentiles to 0 and 1, and clip; a flat image is 0.5."""
    low, high = np.percentile(image, (0.5, 99.5))
    if np.isclose(high, low):
        low, high = image.min(), image.max()
    if np.isclose(high, low):
        return np.full(image.shape, 0.5)
    return np.clip((image - low) / (high - low), 0, 1)


def _texture(shape: tuple[int, int], rng: Generator, slope: float = 1.3) -> Picture:
    """Noise with a 1/f^slope spectrum, zero mean and unit deviation."""
    frequency = np.hypot(
        np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None]
    )
    frequency[0, 0] = np.inf
    spectrum = np.fft.rfft2(rng.standard_normal(shape)) / frequency**slope
    noise = np.fft.irfft2(spectrum, s=shape)
    return noise / noise.std()


class _Brush:
    """Paints on the part of a canvas that a shape can reach."""

    def __init__(self, canvas: Picture, y: float, x: float, reach: float) -> None:
        top, left = max(0, int(y - reach)), max(0, int(x - reach))
        bottom, right = max(0, int(y + reach) + 2), max(0, int(x + reach) + 2)
        self.area = canvas[top:bottom, left:right]
        h, w = self.area.shape
        self.dy = np.arange(top, top + h)[:, None] - y
        self.dx = np.arange(left, left + w)[None] - x
        self.rho = np.hypot(self.dy, self.dx)
        self.theta = np.arctan2(self.dy, self.dx)

    def fill(self, distance: Picture, level: Level, opacity: float = 1.0) -> None:
        """Cover where the signed distance to the edge, in pixels, is negative."""
        inside = opacity * np.clip(0.5 - distance, 0, 1)
        self.area += inside * (level - self.area)

    def glow(self, distance: Picture, level: float, width: float) -> None:
        """Brighten a band along the edge."""
        self.area += level * np.exp(-((distance / width) ** 2))


def _places(
    shape: tuple[int, int], count: float, rng: Generator
) -> Float64[np.ndarray, "n 2"]:
    """Random (y, x), as many as ``count`` in a square of the shorter side."""
    n = round(count * shape[0] * shape[1] / min(shape) ** 2)
    return rng.uniform(0, 1, (n, 2)) * shape


def cells(shape: tuple[int, int], rng: Generator) -> Picture:
    """Overlapping cells with membranes, nuclei and granules on a 1/f ground."""
    unit = min(shape)
    canvas = 0.3 + 0.06 * _texture(shape, rng)
    for y, x in _places(shape, 60, rng):
        radius = unit * rng.uniform(0.05, 0.13)
        brush = _Brush(canvas, y, x, 1.7 * radius)
        edge = brush.rho - radius * _wobble(brush.theta, rng)
        brush.fill(edge, rng.uniform(0.3, 0.65), opacity=0.75)
        brush.glow(edge, rng.uniform(0.2, 0.45), width=rng.uniform(1.5, 4))
        nucleus = brush.rho - radius * rng.uniform(0.25, 0.45)
        brush.fill(nucleus, rng.uniform(0.1, 0.9), opacity=0.8)
        _granules(canvas, (y, x), radius, rng)
    return canvas + 0.02 * _texture(shape, rng, slope=0.7)


def _wobble(theta: Picture, rng: Generator) -> Picture:
    waves = range(2, 6)
    sizes, phases = rng.normal(0, 0.16, 4), rng.uniform(0, 2 * np.pi, 4)
    terms = (
        a / k * np.cos(k * theta + p)
        for k, a, p in zip(waves, sizes, phases, strict=True)
    )
    return 1 + sum(terms, start=np.zeros_like(theta))


def _granules(
    canvas: Picture, centre: tuple[float, float], radius: float, rng: Generator
) -> None:
    for angle, away in rng.uniform(0, 1, (int(rng.integers(3, 12)), 2)):
        turn, ring = 2 * np.pi * angle, radius * (0.35 + 0.5 * away)
        size = rng.uniform(1.5, 5)
        y, x = centre[0] + ring * np.sin(turn), centre[1] + ring * np.cos(turn)
        brush = _Brush(canvas, y, x, size + 2)
        brush.fill(brush.rho - size, rng.uniform(0, 1))


def star(shape: tuple[int, int], rng: Generator) -> Picture:
    """A Siemens star of 36 spokes with four ring gaps, in a frame of bars."""
    unit, spokes = min(shape), 36
    canvas = np.zeros(shape)
    _bars(canvas, rng)
    brush = _Brush(canvas, shape[0] / 2, shape[1] / 2, unit)
    brush.fill(brush.rho - 0.47 * unit, 0.0)
    wave = np.sin(spokes * brush.theta + rng.uniform(0, 2 * np.pi))
    # The sine's slope turns its value into a distance from the spoke's edge.
    spoke = -wave * brush.rho / spokes
    for inner, outer in ((0.03, 0.1), (0.12, 0.2), (0.22, 0.32), (0.34, 0.45)):
        ring = np.maximum(inner * unit - brush.rho, brush.rho - outer * unit)
        brush.fill(np.maximum(spoke, ring), 1.0)
    return canvas


def _bars(canvas: Picture, rng: Generator) -> None:
    """Groups of bars whose width runs from coarse to three pixels, all over."""
    for y, x in _places((canvas.shape[0], canvas.shape[1]), 60, rng):
        width, length = (
            rng.uniform(3, 0.02 * min(canvas.shape) + 3),
            rng.uniform(20, 60),
        )
        brush = _Brush(canvas, y, x, length)
        along, across = (
            (brush.dy, brush.dx) if rng.random() < 0.5 else (brush.dx, brush.dy)
        )
        bars = np.abs((across / width + 0.5) % 2 - 1) * width - width / 2
        box = np.maximum(np.abs(across) - 5 * width, np.abs(along) - length / 2)
        brush.fill(np.maximum(bars, box), 0.7)


def circuit(shape: tuple[int, int], rng: Generator) -> Picture:
    """Metal layers of a chip: pads, buses in both directions, vias."""
    unit = min(shape)
    canvas = 0.12 + 0.015 * _texture(shape, rng)
    for y, x in _places(shape, 14, rng):
        half = unit * rng.uniform(0.02, 0.09, 2)
        _rectangle(canvas, (y, x), (half[0], half[1]), rng.uniform(0.25, 0.5))
    for width, level in ((0.018, 0.45), (0.011, 0.65), (0.006, 0.85)):
        for along in rng.permutation(2):
            _layer(canvas, int(along), max(1.2, width * unit / 2), level, rng)
    return canvas


def _layer(
    canvas: Picture, along: int, half: float, level: float, rng: Generator
) -> None:
    """Wires on a grid of tracks along one axis, each with a via at both ends."""
    unit, tracks = min(canvas.shape), int(canvas.shape[1 - along] / (5 * half))
    for track in range(tracks):
        if rng.random() < 0.55:
            continue
        across = (track + 0.5) * 5 * half
        middle = rng.uniform(0, canvas.shape[along])
        reach = unit * rng.uniform(0.05, 0.35)
        at, size = (middle, across), (reach, half)
        _rectangle(canvas, _turn(at, along), _turn(size, along), level)
        for end in (middle - reach, middle + reach):
            via = (1.8 * half, 1.8 * half)
            _rectangle(canvas, _turn((end, across), along), via, level + 0.1)
            hole = (0.6 * half, 0.6 * half)
            _rectangle(canvas, _turn((end, across), along), hole, 0.1)


def _turn(point: tuple[float, float], along: int) -> tuple[float, float]:
    """(along, across) to (y, x)."""
    return point if along == 0 else (point[1], point[0])


def _rectangle(
    canvas: Picture,
    centre: tuple[float, float],
    half: tuple[float, float],
    level: float,
) -> None:
    brush = _Brush(canvas, *centre, max(half) + 2)
    brush.fill(
        np.maximum(np.abs(brush.dy) - half[0], np.abs(brush.dx) - half[1]), level
    )


def particles(shape: tuple[int, int], rng: Generator) -> Picture:
    """Faceted nanoparticles, log-normal in size, on a faintly rough film."""
    unit = min(shape)
    canvas = 0.15 + 0.03 * _texture(shape, rng)
    for y, x in _places(shape, 260, rng):
        radius = float(np.clip(unit * rng.lognormal(-4.0, 0.6), 2, 0.1 * unit))
        brush = _Brush(canvas, y, x, 1.5 * radius + 2)
        facets = rng.uniform(0, 2 * np.pi) + np.arange(6) * np.pi / 3
        reach = radius * rng.uniform(0.8, 1.15, 6)
        edge = np.max(
            [
                brush.dy * np.sin(a) + brush.dx * np.cos(a) - r
                for a, r in zip(facets, reach, strict=True)
            ],
            axis=0,
        )
        dome = 1 - 0.35 * (brush.rho / (1.5 * radius)) ** 2
        brush.fill(edge, rng.uniform(0.5, 1) * dome, opacity=0.9)
    return canvas


PAINTERS: dict[str, Callable[[tuple[int, int], Generator], Picture]] = {
    "cells": cells,
    "star": star,
    "circuit": circuit,
    "particles": particles,
}
"""The pictures that can be asked for by name."""
