"""Messages to DECTRIS SIMPLON stream version 2, as a detector sends them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ptystream.wire import cbor
from ptystream.wire.cbor import Tag
from ptystream.wire.codecs import Buffer, Encoding
from ptystream.wire.dectris2 import ARRAY, COMPRESSED, DTYPES, SELF_DESCRIBED, TYPED
from ptystream.wire.dectris_config import VERSION_2
from ptystream.wire.dectris_encode import config_of
from ptystream.wire.envelope import EncodedFrame, encode_frame
from ptystream.wire.messages import Calibration, Frame, ScanEnd, ScanStart

_TAGS = {"|u1": 64} | {name: tag for tag, name in TYPED.items() if tag != 68}
_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_SETTINGS = {name: ours for ours, name in VERSION_2.items()}
_NS = 1_000_000_000


class Dectris2Encoder:
    """Encodes one series after the other; the decoder's inverse.

    The scan's name and meta go into ``user_data``. ``calibrations`` are sent with each
    start.
    """

    def __init__(
        self,
        *,
        series: int = 1,
        channel: str = "threshold_1",
        calibrations: Sequence[Calibration] = (),
    ) -> None:
        self.series = series
        self._next = series
        self._channel = channel
        self._calibrations = calibrations

    def encode(
        self,
        message: ScanStart | Frame | EncodedFrame | ScanEnd,
        encoding: Encoding = "raw",
    ) -> list[Buffer]:
        """Return the one part of a message.

        ``encoding`` is for a Frame. Raises ValueError for what the wire doesn't carry.
        """
        if isinstance(message, ScanStart):
            fields = self._start(message)
        elif isinstance(message, ScanEnd):
            fields = self._fields("end")
        else:
            if isinstance(message, Frame):
                message = encode_frame(message, encoding)
            fields = self._image(message)
        return [cbor.encode(Tag(SELF_DESCRIBED, fields))]

    def _fields(self, kind: str) -> dict[str, Any]:
        unique = f"{self.series:026d}"
        return {"type": kind, "series_id": self.series, "series_unique_id": unique}

    def _start(self, start: ScanStart) -> dict[str, Any]:
        if not start.again:
            self.series, self._next = self._next, self._next + 1
        config = config_of(start)
        distance = config.pop("detector_distance", None)
        fields = {
            **self._fields("start"),
            "channels": [self._channel],
            **{_SETTINGS.get(name, name): value for name, value in config.items()},
            "user_data": {**start.meta, "ptystream_scan": start.scan},
        }
        if start.dtype is not None:
            fields["image_dtype"] = _NAMES[start.dtype]
        if distance is not None:
            fields["detector_translation"] = [0.0, 0.0, float(distance)]
        for calibration in self._calibrations:
            array = np.ascontiguousarray(calibration.array)
            typed = Tag(_TAGS[array.dtype.str], array.tobytes())
            fields[calibration.name] = {self._channel: _array(array.shape, typed)}
        return fields

    def _image(self, frame: EncodedFrame) -> Mapping[str, Any]:
        payload: Any = frame.payload
        if frame.encoding == "bslz4":
            itemsize = np.dtype(frame.dtype).itemsize
            payload = Tag(COMPRESSED, ["bslz4", itemsize, payload])
        elif frame.encoding != "raw":
            raise ValueError(f"encoding {frame.encoding!r} isn't one of this wire")
        typed = Tag(_TAGS[frame.dtype], payload)
        return {
            **self._fields("image"),
            "image_id": frame.index,
            "real_time": [frame.stop_ns - frame.start_ns, _NS],
            "start_time": [frame.start_ns, _NS],
            "stop_time": [frame.stop_ns, _NS],
            "data": {self._channel: _array(frame.shape, typed)},
        }


def _array(shape: Sequence[int], typed: Tag) -> Tag:
    return Tag(ARRAY, [list(shape), typed])
