"""From photon to pixel: how long a frame takes until a picture shows it."""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

KEPT = 4096
"""Arrivals of which no picture was drawn yet, and lags until somebody takes them."""
DRAWN = 64
"""Pictures that were drawn and are not shown yet; beyond it the oldest is forgotten."""


@dataclass(frozen=True, slots=True)
class _Drawn:
    """A picture on its way: the arrivals (monotonic) that no earlier one holds."""

    run: str
    step: int
    arrived_s: list[float]


class PixelLags:
    """Times exposures from arrival until a picture drawn after a step on them is shown.

    The engine's thread tells what it took and drew, the preview's what it showed. What
    is forgotten at a bound is missing in the count of lags, beside that of exposures.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._run, self._step = "", 0
        self._new: deque[float] = deque(maxlen=KEPT)
        self._drawn: deque[_Drawn] = deque(maxlen=DRAWN)
        self._lags: deque[float] = deque(maxlen=KEPT)

    def took(self, arrived_s: float) -> None:
        """Note an exposure that can be trained on from now on."""
        self._new.append(arrived_s)

    def drew(self, run: str, step: int) -> None:
        """Note a snapshot; without a step since the last it holds nothing new."""
        if run == self._run and step <= self._step:
            return
        self._run, self._step = run, step
        with self._lock:
            self._drawn.append(_Drawn(run, step, list(self._new)))
        self._new.clear()

    def forget(self) -> None:
        """Leave out what was taken and never drawn: its run is over."""
        self._new.clear()

    def shown(self, run: str, step: int) -> None:
        """Note that the picture of a step has gone out: older ones are overtaken."""
        now_s = self._clock()
        with self._lock:
            seen = [n for n, d in enumerate(self._drawn) if _holds(d, run, step)]
            for _ in range(seen[-1] + 1 if seen else 0):
                drawn = self._drawn.popleft()
                self._lags.extend(now_s - arrived for arrived in drawn.arrived_s)

    def take(self) -> list[float]:
        """Return the lags since the last call, in seconds."""
        with self._lock:
            lags = list(self._lags)
            self._lags.clear()
        return lags


def _holds(drawn: _Drawn, run: str, step: int) -> bool:
    """Tell whether what was drawn is in the picture of a step."""
    return drawn.run == run and drawn.step <= step
