"""The series of a DECTRIS detector that are, or were, open, and their scans."""

from collections import OrderedDict
from dataclasses import replace
from typing import Any

from ptystream.wire.dectris_config import scan_name, start_of
from ptystream.wire.envelope import EncodedFrame
from ptystream.wire.messages import ScanEnd, ScanStart

REMEMBERED = 8
"""Series; the frames that one leaves behind come under its name."""


class Series:
    """One series. ``told`` is what its header said; None: no header came."""

    __slots__ = ("channel", "ended", "scan", "told")

    def __init__(self, scan: str, told: Any, channel: str | None) -> None:
        self.scan, self.told, self.channel = scan, told, channel
        self.ended = False


class SeriesBook:
    """Knows the last eight series by number; the oldest is forgotten."""

    def __init__(self) -> None:
        self._series: OrderedDict[int, Series] = OrderedDict()

    def get(self, number: int) -> Series | None:
        """Return a series that began, None if it didn't or was forgotten."""
        return self._series.get(number)

    def begin(
        self, number: int, *, user: Any, told: Any, channel: str | None = None
    ) -> tuple[Series, bool]:
        """Begin a series with its header; True if that came late, or again."""
        known = self.get(number)
        again = known is not None and not known.ended and known.told in (None, told)
        scan = known.scan if known and again else scan_name(number, user)
        return self._add(number, Series(scan, told, channel)), again

    def begin_with(
        self, number: int, frame: EncodedFrame, channel: str | None = None
    ) -> ScanStart:
        """Begin a series whose header never came with a frame of it."""
        series = self._add(number, Series(frame.scan, None, channel))
        start = start_of(series.scan, number, {})
        late = frame.index > 0
        return replace(start, shape=frame.shape, dtype=frame.dtype, again=late)

    def end(self, number: int) -> ScanEnd | None:
        """End a series, once: ``end`` and ``disarm`` may both say so."""
        series = self.get(number)
        if series is None or series.ended:
            return None
        series.ended = True
        return ScanEnd(series.scan, "det", "complete")

    def _add(self, number: int, series: Series) -> Series:
        self._series.pop(number, None)
        self._series[number] = series
        if len(self._series) > REMEMBERED:
            self._series.popitem(last=False)
        return series
