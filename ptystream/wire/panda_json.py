"""PandABox rows as JSON over ZeroMQ, in the two forms that beamlines publish.

HXN's has ``msg_type`` start, data and stop, and in ``datasets`` for each column its
``starting_sample_number``. MAX IV's has ``message_type`` series-start, data and
series-end, its ``frame_number`` the first row's, a ``message_id`` that counts
messages, and each column as a list. Where a message begins is always what it says, not
what came before it: HXN's ``frame_number`` only counts messages.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

import msgspec
import numpy as np
from msgspec import Meta

from ptystream.errors import DecodeError
from ptystream.wire.codecs import Buffer
from ptystream.wire.columns import Columns
from ptystream.wire.envelope import Envelope, Limits, UnknownKind
from ptystream.wire.headers import MAX_INDEX
from ptystream.wire.messages import ScanEnd, ScanStart

MAX_MESSAGE_BYTES = 64 << 20
_Index = Annotated[int, Meta(ge=0, lt=MAX_INDEX)]
_Text = Annotated[str, Meta(max_length=64)]
Dialect = Literal["hxn", "maxiv"]


class _Message(msgspec.Struct):
    """What tells the dialects and their kinds apart."""

    msg_type: _Text | None = None
    message_type: _Text | None = None


class _Start(msgspec.Struct):
    arm_time: _Text | None = None
    start_time: _Text | None = None
    message_id: _Index | None = None


class _Dataset(msgspec.Struct):
    starting_sample_number: _Index
    data: list[float]


class _HxnData(msgspec.Struct):
    frame_number: _Index
    datasets: dict[str, _Dataset]


class _HxnStop(msgspec.Struct):
    emitted_frames: _Index | None = None


class _MaxivData(msgspec.Struct):
    frame_number: _Index
    message_id: _Index | None = None


class _MaxivEnd(msgspec.Struct):
    message_id: _Index | None = None


_MAXIV_OWN = frozenset({"message_id", "version", "message_type", "frame_number"})


class PandaJsonDecoder:
    """JSON messages to starts, encoder columns and ends.

    Scans are named ``panda-<arm time>``. One whose start was lost, or came before we
    did, is named by number and said to have begun already.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._scan = ""
        self._unnamed = 0
        self._next = 0
        self._seq: int | None = None

    def topics(self, streams: Sequence[str]) -> Sequence[bytes]:
        """Return the empty prefix: there are no topics."""
        return [b""]

    def decode(self, parts: Sequence[Buffer]) -> Sequence[Envelope]:
        """Decode one message of one part; raise DecodeError and nothing else."""
        if len(parts) != 1 or len(parts[0]) > MAX_MESSAGE_BYTES:
            raise DecodeError(f"{len(parts)} parts, expected one of JSON")
        try:
            kind = _read(parts[0], _Message)
            if kind.msg_type is not None:
                return self._hxn(kind.msg_type, parts[0])
            if kind.message_type is not None:
                return self._maxiv(kind.message_type, parts[0])
        # msgspec raises ValueError, and RecursionError on deeply nested data.
        except (ValueError, RecursionError) as e:
            raise DecodeError(f"encoder rows: {e}"[:300]) from e
        raise DecodeError("JSON with neither msg_type nor message_type")

    def _hxn(self, kind: str, text: Buffer) -> list[Envelope]:
        if kind == "start":
            return [self._enclose(self._start(_read(text, _Start)))]
        if kind == "data":
            data = _read(text, _HxnData)
            firsts = {d.starting_sample_number for d in data.datasets.values()}
            if len(firsts) != 1:
                raise DecodeError(f"columns that begin at {sorted(firsts)[:5]}")
            columns = {n.lstrip("/"): d.data for n, d in data.datasets.items()}
            return self._rows(firsts.pop(), columns, data.frame_number)
        if kind == "stop":
            return self._end(_read(text, _HxnStop).emitted_frames)
        return [self._enclose(UnknownKind(kind))]

    def _maxiv(self, kind: str, text: Buffer) -> list[Envelope]:
        # Its messages are numbered through all series: one run for all of them.
        if kind == "series-start":
            start = _read(text, _Start)
            return [self._enclose(self._start(start), start.message_id, run="panda")]
        if kind == "data":
            data = _read(text, _MaxivData)
            values = _read(text, dict)
            columns = {
                name: value
                for name, value in values.items()
                if name not in _MAXIV_OWN and isinstance(value, list)
            }
            return self._rows(data.frame_number, columns, data.message_id, run="panda")
        if kind == "series-end":
            return self._end(_read(text, _MaxivEnd).message_id, run="panda")
        return [self._enclose(UnknownKind(kind))]

    def _start(self, start: _Start) -> ScanStart:
        self._unnamed += not start.arm_time
        return self._begin(start.arm_time or str(self._unnamed), start)

    def _begin(self, name: str, start: _Start | None = None) -> ScanStart:
        self._scan, self._next = f"panda-{name}", 0
        times = {} if start is None else msgspec.structs.asdict(start)
        meta = {k: v for k, v in times.items() if k.endswith("time") and v}
        return ScanStart(self._scan, "pos", again=start is None, meta=meta)

    def _rows(
        self,
        first: int,
        values: Mapping[str, list[float]],
        seq: int | None,
        run: str = "",
    ) -> list[Envelope]:
        sizes = {len(column) for column in values.values()}
        if len(sizes) != 1 or max(sizes) > self._limits.max_samples:
            raise DecodeError(f"columns of {sorted(sizes)[:5]} rows, expected one size")
        columns = {name: _column(name, column) for name, column in values.items()}
        done: list[Envelope] = []
        # Numbers that begin again are another scan, its start lost; the very same
        # message once more isn't.
        if not self._scan or (first == 0 and self._next > max(sizes)):
            self._unnamed += 1
            done.append(self._enclose(self._begin(str(self._unnamed)), run=run))
        self._next, self._seq = max(self._next, first + max(sizes)), seq
        rows = Columns(self._scan, first, columns)
        return [*done, self._enclose(rows, seq, run=run)]

    def _end(self, seq: int | None, run: str = "") -> list[Envelope]:
        """End the scan; how many rows it had is known if the last of them came."""
        if not self._scan:
            return []
        came = seq is not None and self._seq is not None and seq == self._seq + 1
        end = ScanEnd(self._scan, "pos", "complete", self._next if came else None)
        done = [self._enclose(end, seq, run=run)]
        self._scan, self._next, self._seq = "", 0, None
        return done

    def _enclose(
        self,
        message: ScanStart | Columns | ScanEnd | UnknownKind,
        seq: int | None = None,
        run: str = "",
    ) -> Envelope:
        return Envelope(message, "pos", run or self._scan, seq, 0)


class PandaJsonEncoder:
    """Messages to JSON, in either dialect; the inverse of the decoder."""

    def __init__(self, dialect: Dialect = "hxn") -> None:
        self._hxn = dialect == "hxn"
        self._sent = 0

    def start(self, arm_time: str) -> list[bytes]:
        """Return what is sent when the box is armed."""
        if self._hxn:
            self._sent = 0
            times = {"arm_time": arm_time, "start_time": arm_time}
            return [_json({"msg_type": "start", **times, "hw_time_offset_ns": None})]
        return [self._numbered("series-start", {"arm_time": arm_time})]

    def rows(self, rows: Columns) -> list[bytes]:
        """Return one batch."""
        values = {name: column.tolist() for name, column in rows.columns.items()}
        if not self._hxn:
            return [self._numbered("data", {"frame_number": rows.first, **values})]
        size = {"dtype": "float64", "size": len(rows)}
        datasets = {
            f"/{name}": {**size, "starting_sample_number": rows.first, "data": column}
            for name, column in values.items()
        }
        number = self._sent
        self._sent += 1
        message = {"msg_type": "data", "frame_number": number, "datasets": datasets}
        return [_json(message)]

    def end(self) -> list[bytes]:
        """Return what is sent when the box is done."""
        if self._hxn:
            return [_json({"msg_type": "stop", "emitted_frames": self._sent})]
        return [self._numbered("series-end", {})]

    def _numbered(self, kind: str, fields: Mapping[str, Any]) -> bytes:
        self._sent += 1
        head = {"message_id": self._sent, "version": 1, "message_type": kind}
        return _json({**head, **fields})


_json = msgspec.json.encode


_Kind = TypeVar("_Kind")
_DECODERS: Mapping[type, msgspec.json.Decoder[Any]] = {
    kind: msgspec.json.Decoder(kind)
    for kind in (_Message, _Start, _HxnData, _HxnStop, _MaxivData, _MaxivEnd, dict)
}


def _read(text: Buffer, kind: type[_Kind]) -> _Kind:
    return _DECODERS[kind].decode(text)


def _column(name: str, values: list[float]) -> np.ndarray:
    try:
        column = np.array(values, np.float64)
    except (TypeError, ValueError, OverflowError) as e:
        raise DecodeError(f"column {name[:60]!r}: {e}") from e
    if column.ndim != 1:
        raise DecodeError(f"column {name[:60]!r} of shape {column.shape}")
    return column
