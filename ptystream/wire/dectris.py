"""DECTRIS SIMPLON stream version 1 (``legacy``): JSON and blobs to messages."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from ptystream.errors import DecodeError
from ptystream.wire import bslz4
from ptystream.wire.codecs import Buffer
from ptystream.wire.dectris_config import expected_images, scan_name, start_of
from ptystream.wire.dectris_json import Part
from ptystream.wire.dectris_parts import End, Header, Image, Parts
from ptystream.wire.dectris_series import SeriesBook
from ptystream.wire.envelope import EncodedFrame, Envelope, Limits
from ptystream.wire.messages import Calibration, ScanEnd, ScanStart

TYPES: Mapping[str, str] = {"uint8": "|u1", "uint16": "<u2", "uint32": "<u4"}
CALIBRATIONS: Mapping[str, str] = {"pixel_mask": "uint32", "flatfield": "float32"}
"""The arrays of a header that go on, and their type."""

_MAX_NS = 1 << 62


class DectrisDecoder:
    """One connection's decoder.

    A series is a scan ``series-<n>``, unless its header's appendix has a
    ``ptystream_scan``. A series whose header never came starts with its first image.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._parts = Parts()
        self._series = SeriesBook()

    def topics(self, streams: Sequence[str]) -> Sequence[bytes]:
        """Return the empty prefix: there are no topics."""
        return [b""]

    def decode(self, parts: Sequence[Buffer]) -> Iterator[Envelope]:
        """Yield what a message completes; raise DecodeError and nothing else.

        An error comes after the good envelopes of its message.
        """
        error: DecodeError | None = None
        for thing in self._parts.feed(parts):
            try:
                yield from self._messages(thing)
            except DecodeError as e:
                error = error or e
        if error is not None:
            raise error

    def _messages(
        self, thing: Header | Image | End | DecodeError
    ) -> Iterator[Envelope]:
        if isinstance(thing, DecodeError):
            raise thing
        if isinstance(thing, Header):
            yield from self._begin(thing)
        elif isinstance(thing, Image):
            yield from self._image(thing)
        elif (end := self._series.end(thing.series)) is not None:
            yield _envelope(end)

    def _begin(self, header: Header) -> Iterator[Envelope]:
        """Start a series; a header that comes late, or again, reminds of its start."""
        number, user, config = header.series, header.appendix, header.config
        series, again = self._series.begin(number, user=user, told=config)
        self._parts.expect(number, expected_images(config))
        start = start_of(series.scan, number, config, user)
        yield _envelope(replace(start, again=again))
        for kind, described, blob in header.arrays:
            if kind in CALIBRATIONS:
                array = _array(kind, described, blob, self._limits)
                yield _envelope(Calibration(series.scan, kind, array))  # pyright: ignore

    def _image(self, image: Image) -> Iterator[Envelope]:
        described, blob = image.data, image.blob
        if described is None or blob is None:
            raise DecodeError(f"image {image.frame} has no bytes")
        try:
            shape, dtype, encoding, payload = _pixels(described, blob, self._limits)
        except DecodeError as e:
            raise DecodeError(f"image {image.frame}: {e}") from e
        series = self._series.get(image.series)
        frame = EncodedFrame(
            scan=series.scan if series else scan_name(image.series, None),
            index=image.frame,
            shape=shape,
            dtype=dtype,
            encoding=encoding,
            payload=payload,
            start_ns=_ns(image.start_time),
            stop_ns=_ns(image.stop_time),
        )
        if series is None:
            yield _envelope(self._series.begin_with(image.series, frame))
        yield Envelope(frame, "det", frame.scan, image.frame, 0)


def _pixels(
    described: Part, blob: Buffer, limits: Limits
) -> tuple[tuple[int, int], str, str, Buffer]:
    """Return shape, dtype, encoding and payload as our codecs take them."""
    shape, dtype = _shape(described), TYPES.get(described.type)
    if dtype is None:
        raise DecodeError(f"type {described.type[:20]!r}, expected {list(TYPES)}")
    itemsize = np.dtype(dtype).itemsize
    nbytes = math.prod(shape) * itemsize
    if nbytes > limits.max_frame_bytes:
        raise DecodeError(f"{nbytes} bytes, at most {limits.max_frame_bytes}")
    encoding = _encoding(described.encoding, itemsize)
    if encoding == "bslz4":
        return shape, dtype, encoding, bslz4.with_header(blob, nbytes)
    if encoding == "raw" and len(blob) != nbytes:
        raise DecodeError(f"{len(blob)} bytes of pixels, expected {nbytes}")
    return shape, dtype, encoding, blob


def _encoding(text: str, itemsize: int) -> str:
    """Read ``[bs<BITS>][[-]lz4][<]``, or ``raw``; byte order is the little one's."""
    name = text.removesuffix("<")
    if name in ("", "raw"):
        return "raw"
    if name == "lz4":
        return "lz4"
    if name in (f"bs{8 * itemsize}-lz4", f"bs{8 * itemsize}lz4"):
        return "bslz4"
    raise DecodeError(
        f"encoding {text[:20]!r} of {itemsize}-byte pixels, expected "
        f"'<', 'lz4<' or 'bs{8 * itemsize}-lz4<'"
    )


def _shape(described: Part) -> tuple[int, int]:
    """Return rows and columns; the wire has them the other way round."""
    shape = described.shape[::-1]
    if len(shape) == 3 and shape[0] == 1:
        shape = shape[1:]
    if len(shape) != 2 or not all(0 < side < 1 << 20 for side in shape):
        raise DecodeError(f"shape {described.shape[:4]}, expected width and height")
    return shape[0], shape[1]


def _array(kind: str, described: Part, blob: Buffer, limits: Limits) -> np.ndarray:
    """Return a header's array; of 4 bytes a pixel, so at most four frames large."""
    shape, dtype = _shape(described), CALIBRATIONS[kind]
    nbytes = 4 * math.prod(shape)
    if described.type != dtype or nbytes > 4 * limits.max_frame_bytes:
        raise DecodeError(f"{kind} of {described.type[:20]!r} {shape}: want {dtype}")
    if len(blob) != nbytes:
        raise DecodeError(f"{kind} of {len(blob)} bytes, expected {nbytes}")
    return np.frombuffer(blob, dtype).reshape(shape)


def _ns(time: float) -> int:
    return int(time) if 0 <= time < _MAX_NS else 0


def _envelope(message: ScanStart | Calibration | ScanEnd) -> Envelope:
    return Envelope(message, "det", message.scan, None, 0)
