"""One round of trials: all hypotheses briefly, the best at length, the winner twice."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from ptystream.recon.health_score import Misses, Score, score
from ptystream.recon.health_trial import Sample, Trial
from ptystream.recon.hypotheses import AS_TOLD, Hypothesis, Places
from ptystream.recon.looks import Later

BRIEF = 3
"""Passes after which a hypothesis is dropped or tried at length."""
BEST, FINAL = 8, 3
"""So many are tried at length, and once more with other exposures held out."""
FEWEST = 40
"""Exposures that a hypothesis must be able to place."""
WIDEST = 12.0
"""Patterns over which a trial's exposures may lie: what is further isn't tried."""
LONGER = 6
"""Positions as told may also learn so many times as long: until it is found, a first
probe whose defocus is off by half looks like a scale that is off by a tenth. At three
times there was a clean scan that fitted so by 22 %, at six by less than none."""


class _Entry(NamedTuple):
    """A hypothesis, and the exposures that it can place."""

    hypothesis: Hypothesis
    rows: np.ndarray
    place_px: np.ndarray


class Round:
    """Trials one after the other, step by step; figures are read only at looks."""

    def __init__(
        self,
        sample: Sample,
        told: Places,
        hypotheses: Sequence[Hypothesis],
        *,
        passes: int,
        seed: int,
    ) -> None:
        self._sample, self._told = sample, told
        self._passes, self._seed = passes, seed
        entries = [self._entry(h) for h in hypotheses]
        self._entries = [e for e in entries if e is not None]
        self._heat = 0
        self._fits: dict[tuple[Hypothesis, bytes, int], Later] = {}
        self._first: list[Score] = []
        self._running: Iterator[int] | None = self._run()

    def advance(self) -> int:
        """Take one step; return how many exposures it took, 0 while a look is due."""
        if self._running is None:
            return 0
        taken = next(self._running, 0)
        if not taken:
            self._running = None
        return taken

    def look(self) -> tuple[list[Score], list[Score]] | None:
        """Read what has ended; return the scores at length and once more, at the end.

        Both are of the same hypotheses, but for scales, which are refined once more.
        """
        if self._running is not None:
            return None
        scores = self._scores()
        self._heat += 1
        if self._heat == 1:
            self._keep([s.hypothesis for s in scores[:BEST]])
        elif self._heat == 2:
            self._first = scores
            best = [s.hypothesis for s in scores[:FINAL]]
            self._keep(best + (best[0].neighbours() if best else []))
        if self._heat == 3 or not self._entries:
            return self._first, scores
        self._running = self._run()
        return None

    def _keep(self, hypotheses: list[Hypothesis]) -> None:
        """Go on with these alone."""
        entries = [self._entry(h) for h in dict.fromkeys(hypotheses)]
        self._entries = [e for e in entries if e is not None]

    def _run(self) -> Iterator[int]:
        """Try each, and positions as told on the same exposures."""
        self._fits = {}
        passes = BRIEF if self._heat == 0 else self._passes
        for entry in self._entries:
            told = self._as_told(entry)
            lengths = [(told, n) for n in self._patience(passes)]
            for one, length in (*lengths, (entry, passes)):
                key = one.hypothesis, one.rows.tobytes(), length
                if key in self._fits:
                    continue
                trial = Trial(
                    self._sample,
                    one.rows,
                    one.place_px,
                    passes=length,
                    seed=self._seed + (self._heat == 2),
                )
                yield from trial.run()
                self._fits[key] = Later(*trial.fit())

    def _patience(self, passes: int) -> tuple[int, ...]:
        """Return how long positions as told may learn: the better of these counts."""
        return (passes,) if self._heat == 0 else (passes, LONGER * passes)

    def _scores(self) -> list[Score]:
        """Return how all did, the best first."""
        scores = []
        passes = BRIEF if self._heat == 0 else self._passes
        for entry in self._entries:
            tried = self._fit(entry, passes)
            told = [self._fit(self._as_told(entry), n) for n in self._patience(passes)]
            best = min(told, key=lambda fit: fit.error.mean())
            scores.append(score(entry.hypothesis, best, tried))
        return sorted(scores, key=lambda score: -score.gain)

    def _fit(self, entry: _Entry, passes: int) -> Misses:
        """Return how an entry has done."""
        return Misses(
            *self._fits[entry.hypothesis, entry.rows.tobytes(), passes].read()
        )

    def _as_told(self, entry: _Entry) -> _Entry:
        """Return what a hypothesis is compared with."""
        index = self._sample.index[entry.rows]
        return _Entry(AS_TOLD, entry.rows, AS_TOLD.places(self._told, index))

    def _entry(self, hypothesis: Hypothesis) -> _Entry | None:
        """Return the exposures that it can place; None if they are too few, or far."""
        place = hypothesis.places(self._told, self._sample.index)
        rows = np.flatnonzero(np.isfinite(place).all(1))
        if len(rows) < FEWEST:
            return None
        extent = np.ptp(place[rows], axis=0).max() / self._sample.coarser
        if extent > WIDEST * self._sample.amplitude.shape[-1]:
            return None
        return _Entry(hypothesis, rows, place[rows])
