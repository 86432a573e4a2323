"""PandABox's data port as messages, one decoder a connection."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from ptystream.wire import panda
from ptystream.wire.codecs import Buffer
from ptystream.wire.columns import Columns
from ptystream.wire.envelope import Envelope, Limits
from ptystream.wire.messages import EndReason, ScanEnd, ScanStart

_REASONS: Final[dict[str, EndReason]] = {
    "Ok": "complete",
    "Disarmed": "complete",
    "Manually stopped": "complete",
    "Early disconnect": "aborted",
    "Data overrun": "overrun",
    "Driver data overrun": "overrun",
}


class PandaDecoder:
    """Chunks of one connection to starts, encoder columns and ends.

    The box names no scan: they are called ``panda-<arm time>``, or by number where the
    box is too old to tell. Rows missed before we connected keep their numbers.
    """

    request: Final = panda.REQUEST

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._port = panda.DataPort()
        self._scan = ""
        self._armed = self._missed = 0

    def topics(self, streams: Sequence[str]) -> Sequence[bytes]:
        """Return none: a plain connection has no topics."""
        return []

    def reset(self) -> None:
        """Begin a new connection: what the last one had begun is not gone on with."""
        self._port = panda.DataPort()

    def decode(self, parts: Sequence[Buffer]) -> Iterable[Envelope]:
        """Decode a chunk; raise DecodeError, after which the connection is of no use.

        Messages before the bad byte come first.
        """
        for part in parts:
            for event in self._port.feed(part):
                for message in self._messages(event):
                    yield Envelope(message, "pos", message.scan, None, 0)

    def _messages(self, event: panda.Event) -> Iterator[ScanStart | Columns | ScanEnd]:
        if isinstance(event, panda.Header):
            yield self._start(event)
        elif isinstance(event, panda.Rows):
            most = self._limits.max_samples
            for at in range(0, len(event.rows), most):
                rows = event.rows[at : at + most]
                yield panda.Rows(event.header, event.first + at, rows).columns(
                    self._scan
                )
        else:
            reason = _REASONS.get(event.reason, "error")
            # The box counts what it sent here, so without what was missed.
            yield ScanEnd(self._scan, "pos", reason, self._missed + event.rows)

    def _start(self, header: panda.Header) -> ScanStart:
        """Name the scan; late rows of an unnamed one go on with its number."""
        self._missed = header.missed
        late = header.missed > 0
        self._armed += not (late and self._armed)
        self._scan = f"panda-{header.arm_time or self._armed}"
        times = {"arm_time": header.arm_time, "start_time": header.start_time}
        meta: dict[str, Any] = {key: value for key, value in times.items() if value}
        meta["columns"] = [field.column for field in header.fields]
        return ScanStart(self._scan, "pos", again=late, meta=meta)
