"""How many encoder samples a frame has, told by evidence and never guessed.

A pure state machine, fed with what frames and samples say of themselves: numbers and
times of their own clocks. When they arrive doesn't count: positions lag by half a
second, in batches.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

MAX_RATIO = 1 << 14
MIN_PERIODS = 8
"""So many frame periods must both the frames and the samples tell of."""
KEPT_FRAMES, KEPT_SAMPLES = 512, 1 << 16
"""The first of a scan, that are looked at; memory for 0.5 MB of times."""
_AGREEING = 0.75
"""The share of frames, and of samples, that must say the same: others are at the turn
of a line, where the box and the detector wait."""
_OF_PERIOD = 0.02
_OF_SAMPLE = 0.1


@dataclass(frozen=True, slots=True)
class Verdict:
    """The samples a frame; 0 with the ``reason`` why that can't be said, or not yet.

    ``final``: nothing that this scan may still say would change it.
    """

    per_frame: int
    reason: str = ""
    final: bool = False


@dataclass(slots=True)
class _Clock:
    """Numbers and times, as they came, of one stream of one scan."""

    most: int
    numbers: list[np.ndarray] = field(default_factory=list)
    times: list[np.ndarray] = field(default_factory=list)
    count: int = 0
    ended: bool = False
    total: int | None = None

    def add(self, numbers: np.ndarray, times: np.ndarray) -> None:
        room = self.most - self.count
        if room > 0:
            self.numbers.append(numbers[:room])
            self.times.append(times[:room])
            self.count += len(numbers[:room])

    def sorted(self) -> tuple[np.ndarray, np.ndarray]:
        """Return both by number, each number once, times that go back left out."""
        if not self.numbers:
            return np.empty(0), np.empty(0)
        numbers, first = np.unique(np.concatenate(self.numbers), return_index=True)
        times = np.concatenate(self.times)[first]
        ahead = np.concatenate([[True], np.diff(np.maximum.accumulate(times)) > 0])
        return numbers[ahead].astype(float), times[ahead]


class RatioInference:
    """Samples per frame of one scan after the other.

    By times, as they come: in the time from one frame to the next the box takes so many
    samples, at most places of the scan. By counts, at the end: both streams' totals.
    Either must be a whole number.
    """

    def __init__(self) -> None:
        self._frames = _Clock(KEPT_FRAMES)
        self._samples = _Clock(KEPT_SAMPLES)
        self._looked = 0, 0
        self._verdict = Verdict(0, "no evidence yet")

    def frames_begin(self) -> None:
        """Forget the last scan's frames."""
        self._frames = _Clock(KEPT_FRAMES)
        self._looked = 0, 0

    def samples_begin(self) -> None:
        """Forget the last scan's samples, and its frames if they have ended.

        The box may be armed before or after the detector: frames that go on are this
        scan's.
        """
        self._samples = _Clock(KEPT_SAMPLES)
        self._looked = 0, 0
        self._verdict = Verdict(0, "no evidence yet")
        if self._frames.ended:
            self.frames_begin()

    def frame(self, index: int, start_ns: int) -> None:
        """Take a frame's number and when it was taken; 0 for a time that isn't told."""
        if start_ns and self._frames.count < KEPT_FRAMES:
            number, time = np.array([index]), np.array([start_ns / 1e9])
            self._frames.add(number, time)

    def samples(self, first: int, times_s: np.ndarray | Sequence[float]) -> None:
        """Take the times of samples from number ``first`` on."""
        times = np.asarray(times_s, float)
        numbers = first + np.arange(len(times))
        told = np.isfinite(times)
        self._samples.add(numbers[told], times[told])

    def frames_end(self, total: int | None) -> None:
        """Take how many frames the detector sent, None if it doesn't say."""
        self._frames.ended, self._frames.total = True, total

    def samples_end(self, total: int | None) -> None:
        """Take how many samples the box took, None if it doesn't say."""
        self._samples.ended, self._samples.total = True, total

    def verdict(self) -> Verdict:
        """Return what is known; it costs time only when there is twice the evidence."""
        if self._verdict.final:
            return self._verdict
        if self._frames.ended and self._samples.ended:
            self._verdict = self._last_word()
        elif self._worth_a_look():
            self._looked = self._frames.count, self._samples.count
            self._verdict = self._by_times()
        return self._verdict

    def _last_word(self) -> Verdict:
        """Judge when no more will come."""
        by_times = self._by_times()
        if by_times.final:
            return by_times
        return self._by_counts() or _refused(f"{by_times.reason}; no totals either")

    def contradiction(self, per_frame: int) -> str:
        """Return what the totals say against this number; empty if nothing."""
        by_counts = self._by_counts()
        if by_counts is None or by_counts.per_frame == per_frame:
            return ""
        counted = by_counts.reason or f"the totals say {by_counts.per_frame}"
        return f"taken as {per_frame} samples a frame, but {counted}"

    def _worth_a_look(self) -> bool:
        """Tell whether either stream has told twice as much as at the last look."""
        now = self._frames.count, self._samples.count
        doubled = any(n >= 2 * then for n, then in zip(now, self._looked, strict=True))
        return min(now) > MIN_PERIODS and doubled

    def _by_counts(self) -> Verdict | None:
        """Compare the totals, once both streams have ended."""
        samples, frames = self._samples.total, self._frames.total
        if not samples or not frames:
            return None
        if samples % frames:
            return _refused(
                f"{samples} samples for {frames} frames are {samples / frames:.3f} "
                f"a frame, expected a whole number"
            )
        return Verdict(samples // frames, final=True)

    def _by_times(self) -> Verdict:
        """Count the samples from each one to a frame's period later."""
        indices, frame_s = self._frames.sorted()
        numbers, sample_s = self._samples.sorted()
        if len(indices) <= MIN_PERIODS or len(numbers) <= MIN_PERIODS:
            return Verdict(0, "frames or samples carry no times, or too few")
        periods = np.diff(frame_s) / np.diff(indices)
        period = float(np.median(periods))
        if np.mean(np.abs(periods - period) < _OF_PERIOD * period) < _AGREEING:
            return Verdict(0, "frames come at no steady pace")
        later = sample_s + period
        within = later <= sample_s[-1]
        ahead = np.interp(later[within], sample_s, numbers) - numbers[within]
        if sample_s[-1] - sample_s[0] < MIN_PERIODS * period:
            return Verdict(0, f"samples of less than {MIN_PERIODS} frames")
        return _common(ahead, period)


def _common(ahead: np.ndarray, period_s: float) -> Verdict:
    """Judge how many samples lie in each frame's period."""
    ratio = float(np.median(ahead))
    agreeing = float(np.mean(np.abs(ahead - ratio) < _OF_SAMPLE))
    said = f"{ratio:.3f} samples in a frame's {period_s * 1e3:.6g} ms"
    if agreeing < _AGREEING:
        return Verdict(0, f"{said}, but only at {agreeing:.0%} of the samples")
    whole = round(ratio)
    if abs(ratio - whole) >= _OF_SAMPLE or not 1 <= whole <= MAX_RATIO:
        return _refused(f"{said}, expected a whole number from 1 to {MAX_RATIO}")
    return Verdict(whole, final=True)


def _refused(reason: str) -> Verdict:
    return Verdict(0, reason, final=True)
