"""DECTRIS SIMPLON stream version 2: CBOR, one message a part, to messages."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np

from ptystream.errors import DecodeError
from ptystream.wire import bslz4, cbor, codecs
from ptystream.wire.cbor import Tag
from ptystream.wire.codecs import Buffer
from ptystream.wire.dectris_config import VERSION_2, scan_name, start_of
from ptystream.wire.dectris_series import SeriesBook
from ptystream.wire.envelope import EncodedFrame, Envelope, Limits, UnknownKind
from ptystream.wire.headers import is_whole
from ptystream.wire.messages import Calibration, ScanEnd, ScanStart

SELF_DESCRIBED, ARRAY, COMPRESSED = 55799, 40, 56500
TYPED = {64: "|u1", 68: "|u1", 69: "<u2", 70: "<u4", 85: "<f4", 86: "<f8"}
"""RFC 8746's tags of typed arrays, those that a detector sends."""
DTYPES = {"uint8": "|u1", "uint16": "<u2", "uint32": "<u4"}
_ENCODINGS = {"bslz4": "bslz4", "lz4": "lz4-framed", "none": "raw"}
_MAX_NS = 1 << 62
_CALIBRATIONS = {"pixel_mask": "<u4", "flatfield": "<f4"}


class Dectris2Decoder:
    """One connection's decoder.

    Of several channels it takes ``limits.channel``, or the first; each image of another
    is an UnknownKind. Scans are named as in version 1, from ``user_data``.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._series = SeriesBook()

    def topics(self, streams: Sequence[str]) -> Sequence[bytes]:
        """Return the empty prefix: there are no topics."""
        return [b""]

    def decode(self, parts: Sequence[Buffer]) -> Iterator[Envelope]:
        """Yield what a message holds; raise DecodeError and nothing else."""
        for part in parts:
            message = _plain(cbor.decode(part), SELF_DESCRIBED)
            if not isinstance(message, dict):
                raise DecodeError(f"CBOR {type(message).__name__}, expected a map")
            yield from self._messages(cast("dict[str, Any]", message))

    def _messages(self, message: Mapping[str, Any]) -> Iterator[Envelope]:
        kind = message.get("type")
        if kind == "image":
            yield from self._image(message)
        elif kind == "start":
            yield from self._begin(message)
        elif kind == "end":
            ended = self._series.end(_index(message, "series_id"))
            if ended is not None:
                yield _envelope(ended)
        else:
            yield _envelope(UnknownKind(f"{kind}"[:40]))

    def _begin(self, message: Mapping[str, Any]) -> Iterator[Envelope]:
        """Start a series; a start that is sent again reminds of it."""
        number, user = _index(message, "series_id"), message.get("user_data")
        unique = message.get("series_unique_id", "")
        channel = self._channel(message)
        series, again = self._series.begin(
            number, user=user, told=unique, channel=channel
        )
        scan = series.scan
        start = start_of(scan, number, _config(message), user)
        dtype = DTYPES.get(f"{message.get('image_dtype')}", start.dtype)
        yield _envelope(replace(start, dtype=dtype, again=again))
        for name, wanted in _CALIBRATIONS.items():
            arrays = message.get(name)
            array = arrays.get(series.channel) if isinstance(arrays, dict) else None
            if isinstance(array, Tag):  # firmware may leave a placeholder
                yield _envelope(
                    Calibration(scan, name, self._array(array, wanted))  # pyright: ignore
                )

    def _channel(self, message: Mapping[str, Any]) -> str | None:
        """Return the channel to take; None: the first that the images have.

        Raises:
            DecodeError: the detector has none of the wanted name.
        """
        channels = message.get("channels")
        listed = channels if isinstance(channels, list) else []
        names = [name for name in listed if isinstance(name, str)]
        wanted = self._limits.channel
        if wanted is not None and names and wanted not in names:
            raise DecodeError(f"no channel {wanted!r}; the detector has {names[:8]}")
        return wanted or next(iter(names), None)

    def _image(self, message: Mapping[str, Any]) -> Iterator[Envelope]:
        number, index = _index(message, "series_id"), _index(message, "image_id")
        channels = message.get("data")
        if not isinstance(channels, dict) or not channels:
            raise DecodeError(f"image {index} of series {number} has no data")
        series = self._series.get(number)
        wanted = series.channel if series else self._limits.channel
        name = wanted or next(iter(channels))
        if name not in channels:
            names = list(channels)[:8]
            raise DecodeError(f"image {index} has no channel {name!r}, but {names}")
        shape, dtype, encoding, payload = _pixels(channels[name], self._limits)
        frame = EncodedFrame(
            scan=series.scan if series else scan_name(number, None),
            index=index,
            shape=shape,
            dtype=dtype,
            encoding=encoding,
            payload=payload,
            start_ns=_ns(message.get("start_time")),
            stop_ns=_ns(message.get("stop_time")),
        )
        if series is None:
            yield _envelope(self._series.begin_with(number, frame, name))
        for other in channels:
            if other != name:
                yield _envelope(UnknownKind(f"channel {other}"[:40]))
        yield Envelope(frame, "det", frame.scan, index, 0)

    def _array(self, value: Tag, dtype: str) -> np.ndarray:
        """Return a calibration, of 4 bytes a pixel: at most four frames large."""
        limits = replace(self._limits, max_frame_bytes=4 * self._limits.max_frame_bytes)
        shape, found, encoding, payload = _pixels(value, limits, (dtype,))
        out = np.empty(shape, found)
        codecs.decode_into(payload, encoding, out)
        return out


def _pixels(
    value: Any, limits: Limits, dtypes: Sequence[str] = tuple(codecs.DTYPES)
) -> tuple[tuple[int, int], str, str, Buffer]:
    """Return shape, dtype, encoding and payload of a multi-dimensional array."""
    if not isinstance(value, Tag) or value.number != ARRAY:
        raise DecodeError(f"expected an array in rows (tag {ARRAY}), not {value!r:.60}")
    shape, typed = _pair(value.value)
    if not isinstance(typed, Tag) or TYPED.get(typed.number) not in dtypes:
        raise DecodeError(f"array of {typed!r:.60}, expected {list(dtypes)}")
    dtype = TYPED[typed.number]
    itemsize = np.dtype(dtype).itemsize
    nbytes = math.prod(shape) * itemsize
    if nbytes > limits.max_frame_bytes:
        raise DecodeError(f"{nbytes} bytes, at most {limits.max_frame_bytes}")
    encoding, payload = _content(typed.value, itemsize)
    if encoding == "bslz4":
        payload = bslz4.with_header(payload, nbytes)
    if encoding == "raw" and len(payload) != nbytes:
        raise DecodeError(f"{len(payload)} bytes of pixels, expected {nbytes}")
    return shape, dtype, encoding, payload


def _pair(value: Any) -> tuple[tuple[int, int], Any]:
    """Return (rows, columns) and the typed array that a tag 40 holds."""
    if not isinstance(value, list) or len(value) != 2 or not isinstance(value[0], list):
        raise DecodeError("an array without dimensions")
    shape = value[0]
    good = all(is_whole(n, 1 << 20) and n > 0 for n in shape)
    if len(shape) != 2 or not good:
        raise DecodeError(f"array of dimensions {shape!r:.60}, expected rows, columns")
    return (shape[0], shape[1]), value[1]


def _content(value: Any, itemsize: int) -> tuple[str, memoryview]:
    """Return the encoding and the bytes of a typed array."""
    if isinstance(value, memoryview):
        return "raw", value
    if not isinstance(value, Tag) or value.number != COMPRESSED:
        raise DecodeError(f"array holds {value!r:.60}, expected bytes")
    fields = value.value
    if not isinstance(fields, list) or len(fields) != 3:
        raise DecodeError(f"compressed array of {fields!r:.60}")
    algorithm, size, payload = fields
    encoding = _ENCODINGS.get(algorithm) if isinstance(algorithm, str) else None
    if encoding is None or not isinstance(payload, memoryview):
        raise DecodeError(f"compression {algorithm!r:.40}, want {list(_ENCODINGS)}")
    if encoding == "bslz4" and size != itemsize:
        raise DecodeError(f"bslz4 of {size!r:.20}-byte elements, expected {itemsize}")
    return encoding, payload


def _config(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return a start's settings by the names of version 1."""
    config = {VERSION_2.get(name, name): value for name, value in message.items()}
    distance = message.get("detector_translation")
    if isinstance(distance, list) and len(distance) == 3:
        z_m = distance[2]  # along NeXus' beam, whose sign is the other's
        config["detector_distance"] = abs(z_m) if isinstance(z_m, int | float) else None
    return config


def _ns(ratio: Any) -> int:
    """Return a time given as [count, counts per second]."""
    if not isinstance(ratio, list) or len(ratio) != 2:
        return 0
    count, rate = ratio
    if not (is_whole(count, _MAX_NS) and is_whole(rate, _MAX_NS)) or rate == 0:
        return 0
    time_ns = count * 1_000_000_000 // rate
    return time_ns if time_ns < _MAX_NS else 0


def _index(message: Mapping[str, Any], name: str) -> int:
    value = message.get(name)
    if not is_whole(value):
        raise DecodeError(f"{name} {value!r:.40}, expected a whole number")
    return value


def _plain(value: Any, tag: int) -> Any:
    return value.value if isinstance(value, Tag) and value.number == tag else value


def _envelope(message: ScanStart | Calibration | ScanEnd | UnknownKind) -> Envelope:
    scan = "" if isinstance(message, UnknownKind) else message.scan
    return Envelope(message, "det", scan, None, 0)
