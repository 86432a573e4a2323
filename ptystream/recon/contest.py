"""Smooth or plain pixels: held-out frames decide, by trial.

Where a scan is dense and bright plain pixels end far ahead; where frames or photons are
few they fit noise, and what lies between frames, as they like. Which of both a scan is
depends on probe, overlap, dose and sample at once, so it is tried.
"""

import copy
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

from ptystream.models.field import Box
from ptystream.models.pixels import Pixels
from ptystream.recon.engine import Engine
from ptystream.recon.learners import Learner

CLEAR = 0.7
"""Plain pixels win with less than this share of what smooth ones leave unexplained. A
scan in which frames hardly overlap has few held-out frames, in places that nothing
else has seen, and chance would decide."""
LANDSLIDE = 0.25
"""Plain pixels that win twice running, at last with less than this share, stay."""
AGAIN = 2
"""The next round comes at so many times the steps."""
MORE = 1.5
"""Or with so many times the exposures of the last round: who won on the first rows,
while the beam was away, is not who would win on all."""
SHARE, LONGEST = 4, 200
"""A round gives each side one in so many of the steps there have been, and at most so
many: the challenger's turn is not shown."""
SHORT = 50
"""At most so many in a round that comes of more exposures."""
LONG = SHORT * 3 // 2
"""A challenger with more steps before it than this, when so many exposures have come,
gives up: a short round, with the rest before it, ends sooner than the long one."""


class Verdict(NamedTuple):
    """How held-out exposures are predicted: Σ(a - A)², what of it is photon noise.

    ``judges`` are their numbers of arrival. NaN where nothing is held out.
    """

    error: float
    noise: float
    judges: np.ndarray


Judge = Callable[["Side", np.ndarray | None], Verdict]
"""Judges a side by those of these exposures still kept; None: by any held out."""


def left(plain: Verdict, smooth: Verdict) -> float:
    """Return what plain pixels leave unexplained over what smooth ones leave.

    Photon noise that nothing can predict is taken off first, but for a tenth of the
    error: counts need not be photons. NaN where nothing is held out.
    """
    noise = min(smooth.noise, 0.9 * plain.error, 0.9 * smooth.error)
    return (plain.error - noise) / max(smooth.error - noise, 1e-30)


class Side(NamedTuple):
    """What learns the object, and what the probe."""

    objects: Learner
    probes: Learner

    @property
    def plain(self) -> bool:
        """Whether its object is one of plain pixels."""
        return isinstance(self.objects.field, Pixels)


class Contest:
    """A leader, and now and then a challenger that begins where the leader stands.

    Each round gives as many steps to the challenger and then to the leader, and the
    same held-out frames judge both. Rounds come at twice the steps, or when there are
    half as many exposures more, and grow with the steps; the challenger's are a third
    of all at most. Plain pixels that won a second time, and clearly, stay without
    rounds.
    """

    def __init__(self, smooth: Side, plain: Callable[[], Learner], *, first: int):
        """Begin with smooth pixels in the lead.

        Args:
            smooth: what learns now.
            plain: makes plain pixels that know nothing yet.
            first: steps until the first round, and what each side has in it.
        """
        self.leader = smooth
        self._plain, self._first = plain, first
        self._next, self._length, self._left = first, first, 0
        self._seen = self._ended = 0
        self._challenger: Side | None = None
        self._smooth: Learner | None = smooth.objects
        self._judges: np.ndarray | None = None

    def advance(self, engine: Engine, box: Box, judge: Judge, seen: int) -> bool:
        """Do what is due after a step; True if the leader is another from now on.

        ``box`` is all that exposures may look at, ``seen`` how many there have been.
        """
        if self._challenger is None:
            if self._smooth is not None and (length := self._due(engine.steps, seen)):
                self._seen, self._length = seen, length
                self._judges = judge(self.leader, None).judges
                self._challenger = self._challenge(box)
                self._let(engine, self._challenger, box)
            return False
        self._left -= 1
        if self._left:
            if self._left > LONG and self._outgrown(seen):
                self._give_up(engine, box)
            return False
        if engine.objects is not self.leader.objects:
            self._let(engine, self.leader, box)
            return False
        return self._decide(engine, box, self._challenger, judge)

    def _due(self, steps: int, seen: int) -> int:
        """Return how many steps each side has in a round due now; 0 if none is."""
        if steps >= self._next:
            return max(self._first, min(steps // SHARE, LONGEST))
        length = max(self._first, min(steps // SHARE, SHORT))
        more = self._seen > 0 and self._outgrown(seen)
        return length if more and steps >= self._ended + length else 0

    def _outgrown(self, seen: int) -> bool:
        """Tell whether so many exposures have come that the last round tells little."""
        return seen >= self._seen * MORE

    def _give_up(self, engine: Engine, box: Box) -> None:
        """End a challenger's turn without a verdict, for a short round on all there is.

        The leader makes up for the turn first.
        """
        if engine.objects is not self.leader.objects:
            self._challenger = None
            self._ended = engine.steps + self._length - self._left
            self._next = self._ended + 3 * SHORT
            self._let(engine, self.leader, box)

    def _challenge(self, box: Box) -> Side:
        """Return the other kind of pixels, with a copy of the leader's probe."""
        probes = copy.deepcopy(self.leader.probes)
        if self.leader.plain and self._smooth is not None:
            return Side(self._smooth, probes)
        objects = self._plain()
        with torch.no_grad():
            estimate = self.leader.objects.field.window(box)
        if isinstance(objects.field, Pixels):
            objects.field.write(box, estimate)
        return Side(objects, probes)

    def _let(self, engine: Engine, side: Side, box: Box) -> None:
        """Let this side learn for a while."""
        side.objects.field.cover(box)
        engine.objects, engine.probe = side
        self._left = self._length

    def _decide(self, engine: Engine, box: Box, challenger: Side, judge: Judge) -> bool:
        """End a round; True if the challenger leads.

        Both are judged now: exposures that have been evicted since count for neither.
        """
        self._challenger, self._ended = None, engine.steps
        again = AGAIN * min(self._next, engine.steps)
        self._next = max(again, engine.steps + self._first)
        tried, stood = (judge(s, self._judges) for s in (challenger, self.leader))
        if math.isnan(tried.error):
            return False
        share = left(tried, stood) if challenger.plain else left(stood, tried)
        if (share < CLEAR) != challenger.plain:
            if self.leader.plain and share < LANDSLIDE:
                self._smooth = None
            return False
        self.leader = challenger
        self._let(engine, self.leader, box)
        return True
