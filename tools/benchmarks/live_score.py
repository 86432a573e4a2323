"""How good the snapshots of a live run are, over time, on the area scanned so far."""

import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from ptystream.errors import FileFormatError
from ptystream.publish.files import read_result
from ptystream.recon.score import Image, ImageScore, Score, score
from ptystream.sim.experiment import Experiment

MOMENTS = 14
"""Looks along a run; a second each to score."""
NINE_TENTHS = 0.9
Pair = tuple[float, float]
"""Amplitude and phase, in dB."""
UNKNOWN: Pair = (math.nan, math.nan)


@dataclass(frozen=True)
class Point:
    """PSNR of amplitude and phase at a time after the first exposure began.

    ``flat_db`` is what an empty object has on the same area.
    """

    at_s: float
    exposures: int
    psnr_db: Pair
    flat_db: Pair


@dataclass(frozen=True)
class Snapshots:
    """What a stack holds: when each was written (wall), of how many exposures."""

    path: Path
    time_s: np.ndarray
    exposures: np.ndarray

    def image(self, row: int) -> Image:
        """Return one of them."""
        with h5py.File(self.path) as file:
            plane, pixel, origin = (
                np.asarray(file[name][row])  # pyright: ignore[reportIndexIssue]
                for name in ("object", "pixel_size_m", "origin_m")
            )
        lit = np.isfinite(plane)
        rows, columns = lit.any(axis=1).sum(), lit.any(axis=0).sum()
        found = plane[:rows, :columns][None]
        return Image(found, (pixel[0], pixel[1]), (origin[0], origin[1]))


def snapshots(path: Path) -> Snapshots:
    """Read a stack's times; places that were never written have none."""
    with h5py.File(path) as file:
        time_s, exposures = (
            np.asarray(file[name])[:, 0]  # pyright: ignore[reportIndexIssue]
            for name in ("time", "exposures")
        )
    count = int((time_s > 0).sum())
    return Snapshots(path, time_s[:count], exposures[:count].astype(int))


class Judge:
    """Scores pictures of one scan; the truth is known here alone."""

    def __init__(self, experiment: Experiment) -> None:
        """Take the truth; around each point a cell of a step counts as scanned.

        It needs no probe, so the same pixels are judged for any result. On a scan of
        241 px with a window of 64 it is the published evaluation's crop.
        """
        truth, settings = experiment.truth, experiment.settings
        self._truth = truth
        origin, pixel = np.array(truth.origin_m), np.array(truth.pixel_m)
        places = (experiment.track.mean_m - origin) / pixel
        self._places = np.rint(places).astype(int)
        window = settings.detector.size_px
        step = max(1, round((1 - settings.scan.overlap) * window))
        # One more than half a step: the stage's jitter must leave no seams.
        self._reach = step // 2 + 1

    def scanned(self, exposures: int) -> np.ndarray:
        """Return where the first exposures were taken, 1 or 0 ``[H, W]``."""
        area = np.zeros(self._truth.object.shape[-2:])
        reach = self._reach
        for y, x in self._places[:exposures]:
            area[y - reach : y + reach, x - reach : x + reach] = 1
        return area

    def score(self, image: Image, exposures: int) -> Score:
        """Score a picture; FileFormatError if too little is there yet."""
        truth, area = self._truth, self.scanned(exposures)
        target = Image(
            truth.object, truth.pixel_m, truth.origin_m, truth.probe, coverage=area
        )
        return score(image, target)

    def point(self, image: Image, exposures: int, at_s: float) -> Point | None:
        """Return the score at a time; None where there is too little to be scored."""
        try:
            found = self.score(image, exposures)
        except FileFormatError:
            return None
        return Point(at_s, exposures, _pair(found.aligned), _pair(found.flat_aligned))

    def result(self, path: Path) -> tuple[Pair, Pair, float]:
        """Return a result's PSNR, an empty object's, and the error of its probe."""
        kept = read_result(path)
        image = Image(kept.object, kept.pixel_m, kept.origin_m, kept.probe)
        found = self.score(image, len(self._places))
        return _pair(found.aligned), _pair(found.flat_aligned), found.probe_error


@dataclass(frozen=True)
class Curve:
    """Scores along a run, and of the newest snapshot at each of some moments."""

    points: list[Point]
    at: dict[str, Point | None]

    def psnr_db(self, moment: str) -> Pair:
        """Return the score at a moment; NaN if there was none."""
        point = self.at[moment]
        return UNKNOWN if point is None else point.psnr_db

    def reached_s(self, final_db: Pair, flat_db: Pair) -> float:
        """Return when both had gained nine tenths of what they gained in the end.

        NaN if they gained nothing, or never did before the end.
        """
        wanted = [
            f + NINE_TENTHS * (e - f) for e, f in zip(final_db, flat_db, strict=True)
        ]
        if any(e <= f for e, f in zip(final_db, flat_db, strict=True)):
            return math.nan
        for point in self.points:
            if all(p >= w for p, w in zip(point.psnr_db, wanted, strict=True)):
                return point.at_s
        return math.nan


def curve(
    judge: Judge,
    kept: Snapshots,
    began_s: float,
    moments: dict[str, float],
    *,
    looks: int = MOMENTS,
) -> Curve:
    """Score ``looks`` snapshots evenly in time, and the newest at each moment."""
    at_s = kept.time_s - began_s
    evenly = np.linspace(0, at_s[-1], looks + 1)[1:] if len(at_s) else []
    rows = {name: _newest(at_s, when) for name, when in moments.items()}
    wanted = sorted({_newest(at_s, when) for when in evenly} | set(rows.values()))
    wanted = [row for row in wanted if row >= 0]

    def look(row: int) -> Point | None:
        return judge.point(kept.image(row), int(kept.exposures[row]), float(at_s[row]))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = dict(zip(wanted, pool.map(look, wanted), strict=True))
    points = [point for point in found.values() if point is not None]
    return Curve(points, {name: found.get(row) for name, row in rows.items()})


def _pair(found: ImageScore) -> Pair:
    return found.psnr_amplitude_db, found.psnr_phase_db


def _newest(at_s: Sequence[float] | np.ndarray, when_s: float) -> int:
    """Return the last row written by then, -1 if none."""
    return int(np.searchsorted(at_s, when_s, side="right")) - 1
