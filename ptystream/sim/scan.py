"""Where the stage goes and when: raster lines with turn-arounds, Fermat spirals."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int
from numpy.random import Generator

Points = Float64[np.ndarray, "n 2"]


@dataclass(frozen=True, slots=True)
class Track:
    """The stage's way through a scan, (y, x) in metres, one row per exposure.

    ``mean_m`` is where the exposure's centre of gravity truly was, ``nominal_m``
    where it was asked for, ``span_m`` how far the stage went during it, and ``line``
    the line it belongs to.
    """

    nominal_m: Points
    mean_m: Points
    span_m: Points
    line: Int[np.ndarray, "n"]

    def during(self, points: int) -> Float64[np.ndarray, "n points 2"]:
        """Return even steps through each exposure; their mean is mean_m."""
        share = (np.arange(points) + 0.5) / points - 0.5
        return self.mean_m[:, None] + share[None, :, None] * self.span_m[:, None]

    def end_s(self, period_s: float, pause_s: float) -> Float64[np.ndarray, "n"]:
        """Return when each exposure ends, counted from the start of the first."""
        exposures = (np.arange(len(self.line)) + 1) * period_s
        return exposures + self.line * pause_s


def step_of(overlap: float, window: int, pixel_m: float) -> float:
    """Return the step, in whole object pixels, for overlap = 1 - step / window."""
    return max(1, round((1 - overlap) * window)) * pixel_m


def raster(
    shape: tuple[int, int],
    step_m: tuple[float, float],
    centre_m: tuple[float, float],
    *,
    snake: bool,
) -> Track:
    """Lines along x; every second one runs backwards if ``snake``, else none."""
    rows, columns = np.divmod(np.arange(shape[0] * shape[1]), shape[1])
    backwards = (rows % 2 == 1) & snake
    columns = np.where(backwards, shape[1] - 1 - columns, columns)
    grid = np.stack([rows - (shape[0] - 1) / 2, columns - (shape[1] - 1) / 2], axis=1)
    points = np.array(centre_m) + grid * np.array(step_m)
    span = np.zeros_like(points)
    span[:, 1] = np.where(backwards, -1, 1) * step_m[1]
    return Track(points, points, span, rows)


def fermat(
    exposures: int, step_m: tuple[float, float], centre_m: tuple[float, float]
) -> Track:
    """A Fermat spiral with a raster's density: one exposure per step x step of area."""
    number = np.arange(exposures)
    radius = np.sqrt(number / np.pi)
    angle = number * np.pi * (3 - np.sqrt(5))
    turns = np.stack([radius * np.sin(angle), radius * np.cos(angle)], axis=1)
    points = np.array(centre_m) + turns * np.array(step_m)
    # The stage hops between neighbours in time that lie far apart: it stands to expose.
    return Track(points, points, np.zeros_like(points), np.zeros(exposures, int))


def shaken(track: Track, reach_m: tuple[float, float], rng: Generator) -> Track:
    """Return the track with each point moved by up to this (y, x), on purpose."""
    nominal = track.nominal_m + rng.uniform(-1, 1, track.nominal_m.shape) * reach_m
    return Track(nominal, nominal, track.span_m, track.line)


def jittered(track: Track, jitter_m: float, rng: Generator) -> Track:
    """Return the track as a stage with this rms error (per axis) would run it."""
    error = rng.normal(0, jitter_m, track.nominal_m.shape)
    return Track(track.nominal_m, track.nominal_m + error, track.span_m, track.line)


def standing(track: Track) -> Track:
    """Return the track of a stage that stands still during each exposure."""
    none = np.zeros_like(track.span_m)
    return Track(track.nominal_m, track.mean_m, none, track.line)
