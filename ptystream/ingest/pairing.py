"""Frames and positions of one scan, joined by index in any order of arrival.

A pure state machine: the caller passes the clock. Waiting is bounded by count and by
time; the oldest goes first, and whatever goes unpaired is counted by its reason.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from ptystream.ingest.indices import IndexSet
from ptystream.wire.messages import Exposure, Frame, Samples

FrameLoss = Literal[
    "no_position", "overflow", "duplicate", "late", "wrong_shape", "before_start"
]
"""Why a frame wasn't paired.

``no_position`` waited too long or to the scan's end, ``overflow`` made room for newer
ones, ``duplicate`` came twice, ``late`` came after its position was given up,
``before_start`` came so long before the scan's start that it wasn't kept.
"""
SampleLoss = Literal[
    "no_frame", "overflow", "duplicate", "late", "mismatch", "before_start"
]
"""Why samples weren't used; ``mismatch`` has another number of samples per frame."""

FRAME_LOSSES: tuple[FrameLoss, ...] = get_args(FrameLoss)
SAMPLE_LOSSES: tuple[SampleLoss, ...] = get_args(SampleLoss)

_Point = tuple[float, float]
_Path = tuple[_Point, _Point, _Point]

_RECENT = 4096  # paired positions remembered for their neighbours' sake
_TURN = 3.0  # a step to a neighbour this much longer than the other is a line's turn


@dataclass(frozen=True, slots=True)
class JoinCounts:
    """Frames and samples of a scan so far; each is paired, waiting or lost.

    ``partial`` of the paired exposures had not all of their samples. ``lead_frames``
    is how far the newest frame is ahead of the newest sample, negative when behind, 0
    before both have come; the bounds on what waits are its bounds.
    """

    frames: int
    paired: int
    frames_waiting: int
    frames_lost: Mapping[str, int]
    samples: int
    samples_used: int
    samples_waiting: int
    samples_lost: Mapping[str, int]
    partial: int
    lead_frames: int


class _SampleSet:
    """The samples of one exposure: rows of NaN until they come.

    A row is the mean's y and x, then those of start and end, and the monitor, where the
    encoders tell.
    """

    __slots__ = ("count", "rows")

    def __init__(self, per_frame: int) -> None:
        self.rows = np.full((per_frame, 7), np.nan)
        self.count = 0

    def add(self, offset: int, rows: np.ndarray) -> int:
        """Put rows where they are still missing; return how many were new."""
        place = self.rows[offset : offset + len(rows)]
        missing = np.isnan(place[:, 0])
        place[missing] = rows[missing]
        new = int(missing.sum())
        self.count += new
        return new

    @property
    def complete(self) -> bool:
        return self.count == len(self.rows)


class Pairing:
    """Joins one scan. Each method returns the exposures that it completed.

    Frames wait at most ``frame_wait_s``, and ``max_frames`` of them; samples are small
    and may come long before their frames: only their number bounds them. Frame ``i``
    has the samples of number ``i + lag``.
    """

    def __init__(
        self,
        *,
        max_frames: int = 2048,
        max_samples: int = 1 << 18,
        frame_wait_s: float = 5.0,
        lag: int = 0,
    ) -> None:
        self._lag = lag
        self._max_frames = max_frames
        self._max_samples = max_samples
        self._frame_wait_s = frame_wait_s
        self._frames: dict[int, tuple[float, Frame]] = {}
        self._sets: dict[int, _SampleSet] = {}
        self._recent: dict[int, _Point] = {}
        self._seen = IndexSet()
        self._paired = IndexSet()
        self._given_up = IndexSet()
        self._per_frame = 0
        self._newest_frame = self._newest_set = -1
        self._counts: Counter[str] = Counter()
        self._frames_lost: Counter[str] = Counter()
        self._samples_lost: Counter[str] = Counter()

    def add_frame(self, frame: Frame, now_s: float) -> list[Exposure]:
        """Take a frame."""
        self._counts["frames"] += 1
        index = frame.index
        if index in self._seen:
            self._frames_lost["duplicate"] += 1
            return []
        self._saw(index)
        if index in self._given_up:
            self._frames_lost["late"] += 1
            return []
        self._frames[index] = now_s, frame
        if self._ready(index):
            return [self._join(index)]
        if len(self._frames) > self._max_frames:
            return self._give_up_frame(next(iter(self._frames)), "overflow")
        return []

    def refuse_frame(self, frame: Frame, reason: FrameLoss) -> None:
        """Count a frame that the caller has no use for."""
        self.lose_frames(1, reason)
        self._saw(frame.index)

    def lose_frames(self, number: int, reason: FrameLoss) -> None:
        """Count frames that the caller had to drop."""
        self._counts["frames"] += number
        self._frames_lost[reason] += number

    def lose_samples(self, number: int, reason: SampleLoss) -> None:
        """Count samples that the caller had to drop."""
        self._counts["samples"] += number
        self._samples_lost[reason] += number

    def add_samples(self, samples: Samples) -> list[Exposure]:
        """Take encoder rows, of any number of exposures."""
        rows = _columns(samples)
        self._per_frame = self._per_frame or samples.per_frame
        per_frame = self._per_frame
        if samples.per_frame != per_frame:
            self.lose_samples(len(rows), "mismatch")
            return []
        self._counts["samples"] += len(rows)
        first = samples.first - self._lag * per_frame
        at = min(max(0, -first), len(rows))  # these are of no frame
        self._samples_lost["no_frame"] += at
        done: list[Exposure] = []
        touched: list[int] = []
        while at < len(rows):
            index, offset = divmod(first + at, per_frame)
            part = rows[at : at + per_frame - offset]
            done += self._add_rows(index, offset, part)
            touched.append(index)
            self._newest_set = max(self._newest_set, index)
            at += len(part)
        # Only now: an exposure's neighbours come in the same batch.
        return done + [self._join(i) for i in touched if self._ready(i)]

    def expire(self, now_s: float) -> list[Exposure]:
        """Give up the frames that have waited too long."""
        done: list[Exposure] = []
        while self._frames:
            index, (since_s, _) = next(iter(self._frames.items()))
            if now_s - since_s < self._frame_wait_s:
                break
            done += self._give_up_frame(index, "no_position")
        return done

    def finish(self) -> list[Exposure]:
        """Give up all that waits: no more will come."""
        done: list[Exposure] = []
        for index in list(self._frames):
            done += self._give_up_frame(index, "no_position")
        for index in list(self._sets):
            done += self._give_up_set(index, "no_frame")
        return done

    @property
    def frames_waiting(self) -> int:
        """Return how many frames wait for their positions."""
        return len(self._frames)

    @property
    def used_up(self) -> bool:
        """Return whether samples came, and each that did has found its frame."""
        return self._counts["paired"] > 0 and not self._sets

    @property
    def distinct_frames(self) -> int:
        """Return how many different frames came."""
        return self._counts["distinct"]

    @property
    def distinct_samples(self) -> int:
        """Return how many different samples came."""
        return self._counts["samples"] - self._samples_lost["duplicate"]

    def counts(self) -> JoinCounts:
        """Return the counts so far; every reason is there, zero or not."""
        counts = self._counts
        return JoinCounts(
            frames=counts["frames"],
            paired=counts["paired"],
            frames_waiting=len(self._frames),
            frames_lost={reason: self._frames_lost[reason] for reason in FRAME_LOSSES},
            samples=counts["samples"],
            samples_used=counts["used"],
            samples_waiting=sum(waiting.count for waiting in self._sets.values()),
            samples_lost={
                reason: self._samples_lost[reason] for reason in SAMPLE_LOSSES
            },
            partial=counts["partial"],
            lead_frames=self._lead_frames,
        )

    @property
    def _lead_frames(self) -> int:
        if min(self._newest_frame, self._newest_set) < 0:
            return 0
        return self._newest_frame - self._newest_set

    def _saw(self, index: int) -> None:
        self._counts["distinct"] += index not in self._seen
        self._seen.add(index)
        self._newest_frame = max(self._newest_frame, index)

    def _ready(self, index: int) -> bool:
        waiting = self._sets.get(index)
        return waiting is not None and waiting.complete and index in self._frames

    def _add_rows(self, index: int, offset: int, rows: np.ndarray) -> list[Exposure]:
        """Take rows of one exposure; return what had to make room for them."""
        if index in self._paired or index in self._given_up:
            reason = "duplicate" if index in self._paired else "late"
            self._samples_lost[reason] += len(rows)
            return []
        done: list[Exposure] = []
        if index not in self._sets:
            if len(self._sets) >= max(1, self._max_samples // self._per_frame):
                done = self._give_up_set(next(iter(self._sets)), "overflow")
            self._sets[index] = _SampleSet(self._per_frame)
        new = self._sets[index].add(offset, rows)
        self._samples_lost["duplicate"] += len(rows) - new
        return done

    def _give_up_frame(self, index: int, reason: FrameLoss) -> list[Exposure]:
        """Pair a frame with the samples that did come; lose it if there are none."""
        if index in self._sets:
            return [self._join(index)]
        del self._frames[index]
        self._frames_lost[reason] += 1
        self._given_up.add(index)
        return []

    def _give_up_set(self, index: int, reason: SampleLoss) -> list[Exposure]:
        """Pair samples with their frame, all there or not; lose them without one."""
        if index in self._frames:
            return [self._join(index)]
        self._samples_lost[reason] += self._sets.pop(index).count
        self._given_up.add(index)
        return []

    def _join(self, index: int) -> Exposure:
        _, frame = self._frames.pop(index)
        waiting = self._sets.pop(index)
        self._paired.add(index)
        self._counts["paired"] += 1
        self._counts["used"] += waiting.count
        self._counts["partial"] += not waiting.complete
        if self._per_frame == 1:
            path, strength = self._path_of_one(index, waiting.rows[0].tolist())
        else:
            path, strength = _path(waiting.rows)
        return Exposure(frame, *path, strength)

    def _path_of_one(self, index: int, row: list[float]) -> tuple[_Path, float]:
        """Return where an exposure of one sample started, was, and ended; its monitor.

        In plain numbers: numpy takes three times as long for so few.
        """
        y, x, start_y, start_x, end_y, end_x, monitor = row
        mean = y, x
        if not math.isnan(start_y + start_x + end_y + end_x):
            return ((start_y, start_x), mean, (end_y, end_x)), monitor
        self._remember(index, mean)
        return self._half_way(index, mean), monitor

    def _half_way(self, index: int, here: _Point) -> _Path:
        """Take one sample for the middle: the ends are half way to the neighbours.

        A neighbour that isn't known, or lies beyond a line's turn, is taken to mirror
        the other one.
        """
        before, after = self._single(index - 1), self._single(index + 1)
        back = None if before is None else _step(before, here)
        ahead = None if after is None else _step(here, after)
        if back is not None and ahead is not None:
            length_back, length_ahead = math.hypot(*back), math.hypot(*ahead)
            back, ahead = (
                ahead if length_back > _TURN * length_ahead else back,
                back if length_ahead > _TURN * length_back else ahead,
            )
        back = ahead if back is None else back
        ahead = back if ahead is None else ahead
        if back is None or ahead is None:
            return here, here, here
        y, x = here
        return (
            (y - back[0] / 2, x - back[1] / 2),
            here,
            (y + ahead[0] / 2, x + ahead[1] / 2),
        )

    def _single(self, index: int) -> _Point | None:
        """Return an exposure's only sample, waiting or lately paired."""
        waiting = self._sets.get(index)
        return self._recent.get(index) if waiting is None else _point(waiting.rows[0])

    def _remember(self, index: int, place: _Point) -> None:
        self._recent[index] = place
        if len(self._recent) > _RECENT:
            del self._recent[next(iter(self._recent))]


def _columns(samples: Samples) -> np.ndarray:
    """Return ``[n, 7]``: means, start, end, monitor; NaN where nothing tells."""
    rows = np.full((len(samples.position_m), 7), np.nan)
    rows[:, :2] = samples.position_m
    if samples.start_m is not None and samples.end_m is not None:
        rows[:, 2:4], rows[:, 4:6] = samples.start_m, samples.end_m
    if samples.monitor is not None:
        rows[:, 6] = samples.monitor
    return rows


def _path(rows: np.ndarray) -> tuple[_Path, float]:
    """Return start, mean and end of an exposure of several samples; its monitor."""
    monitor = rows[:, 6]
    known = monitor[~np.isnan(monitor)]
    strength = float(known.mean()) if len(known) else float("nan")
    rows = rows[~np.isnan(rows[:, 0])]
    mean = _point(rows[:, :2].mean(axis=0))
    if np.isnan([rows[0, 2:4], rows[-1, 4:6]]).any():
        return (_point(rows[0]), mean, _point(rows[-1])), strength
    return (_point(rows[0, 2:4]), mean, _point(rows[-1, 4:6])), strength


def _step(one: _Point, next_one: _Point) -> _Point:
    return next_one[0] - one[0], next_one[1] - one[1]


def _point(row: np.ndarray) -> _Point:
    return float(row[0]), float(row[1])
