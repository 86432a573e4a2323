"""Holds the RunEngine while the data are not fit to be used."""

from collections.abc import Callable
from typing import Any

from bluesky.run_engine import call_in_bluesky_event_loop
from bluesky.suspenders import SuspendBoolLow, SuspenderBase
from ophyd_async.core import SignalR

from ptystream.bluesky.device import PtychoLive


class SuspenderSignal:
    """An ophyd-async signal in the clothes that bluesky's suspenders know.

    They pass ``event_type`` and expect a bare value (bluesky 1.15 and before).
    """

    def __init__(self, signal: SignalR[Any]) -> None:
        self.name = signal.name
        self._signal = signal
        self._last: Any = None
        self._callbacks: dict[Any, Callable[[Any], None]] = {}

    def subscribe(
        self, callback: Callable[..., None], event_type: Any = None, run: bool = True
    ) -> None:
        """Have each value told, the present one at once."""

        def heard(readings: dict[str, Any]) -> None:
            (reading,) = readings.values()
            self._last = reading["value"]
            callback(value=self._last)

        async def begin() -> None:
            self._signal.subscribe_reading(heard)

        self._callbacks[callback] = heard
        call_in_bluesky_event_loop(begin())

    def clear_sub(self, callback: Callable[..., None]) -> None:
        """Tell it no more."""
        heard = self._callbacks.pop(callback)

        async def end() -> None:
            self._signal.clear_sub(heard)

        call_in_bluesky_event_loop(end())

    def get(self) -> Any:
        """Return the last value told; never waits."""
        return self._last


class _Suspender(SuspendBoolLow):
    """Says what is wrong with the data when it holds."""

    def __init__(self, live: PtychoLive, settle_s: int) -> None:
        self._live = live
        super().__init__(SuspenderSignal(live.healthy), sleep=settle_s)

    def _get_justification(self) -> str:
        if not self.tripped:
            return ""
        return f"{self._live.name}: {self._live.complaint()}"


def suspend_on_bad_data(live: PtychoLive, *, settle_s: int = 1) -> SuspenderBase:
    """Return a suspender: hold while ``live.healthy`` is false, and a moment longer.

    Install it with ``RE.install_suspender``. Healthy are data that come in time, of
    which few are lost and in which no fault is found, by ``live.limits``, from a
    service that is there. What is found holds while its scan is open: a step scan that
    is held sends no frame that could clear it, so there it is for you to abort.
    """
    return _Suspender(live, settle_s)
