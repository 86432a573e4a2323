"""The native wire ``ptys/1``: multipart messages, a topic, a header, raw buffers.

Part 0 is the topic ``ptys1/<stream>/<kind>`` in ASCII: the magic, the major version
and the prefix to subscribe to. Part 1 is one msgpack map of at most 64 KiB; keys that
a reader doesn't know are ignored. The parts after it are the buffers that the header's
``bufs`` describes, in order. ``q`` counts every message of a stream of a scan from 0,
so a receiver sees each loss, a lost end included.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from ptystream.errors import DecodeError
from ptystream.wire import codecs
from ptystream.wire.codecs import Buffer, Encoding
from ptystream.wire.envelope import (
    EncodedFrame,
    Envelope,
    Limits,
    UnknownKind,
    encode_frame,
)
from ptystream.wire.headers import Beat, Buf, End, FrameHead, Head, Positions, Start
from ptystream.wire.messages import (
    Frame,
    Heartbeat,
    Message,
    Samples,
    ScanEnd,
    ScanStart,
)

MAGIC = b"ptys1/"
MAX_HEADER_BYTES = 1 << 16


def encode(
    message: Message | EncodedFrame,
    *,
    seq: int,
    sent_ns: int,
    encoding: Encoding = "raw",
) -> list[Buffer]:
    """Return the parts of one multipart message.

    A raw frame's pixels and the positions are views, not copies. Raises ValueError for
    what the decoder would refuse. ``encoding`` is for a Frame; the rest ignores it.
    """
    if isinstance(message, Frame):
        message = encode_frame(message, encoding)
    stream, kind, fields, buffers = _describe(message)
    head = {"v": 1, "k": kind, "s": stream, "r": message.scan, "q": seq, "t": sent_ns}
    header = msgspec.msgpack.encode({**head, **fields})
    if len(header) > MAX_HEADER_BYTES:
        raise ValueError(f"header of {len(header)} bytes, at most {MAX_HEADER_BYTES}")
    topic = MAGIC + f"{stream}/{kind}".encode()
    _KINDS[kind](header)  # the decoder's checks are the encoder's
    return [topic, header, *buffers]


def decode(parts: Sequence[Buffer], *, limits: Limits | None = None) -> Envelope:
    """Decode one multipart message; raise DecodeError and nothing else.

    A frame comes as EncodedFrame, a kind from the future as UnknownKind.
    """
    try:
        stream, kind = _topic(parts)
        if len(parts[1]) > MAX_HEADER_BYTES:
            raise DecodeError(f"header of {len(parts[1])} bytes")
        head = _KINDS.get(kind, _COMMON)(parts[1])
        if (head.k, head.s) != (kind, stream):
            raise DecodeError(f"topic {stream}/{kind}, header {head.s}/{head.k}"[:200])
        message = _read(head, parts[2:], limits or Limits())
        return Envelope(message, stream, head.r, head.q, head.t)
    except DecodeError:
        raise
    # msgspec raises ValueError, and RecursionError on deeply nested metadata.
    except (ValueError, TypeError, RecursionError) as e:
        raise DecodeError(f"message of {len(parts)} parts: {e}") from e


def _decoder(kind: type[Head]) -> Callable[[Buffer], Any]:
    return msgspec.msgpack.Decoder(kind).decode


_COMMON = _decoder(Head)
_KINDS: Mapping[str, Callable[[Buffer], Any]] = {
    "start": _decoder(Start),
    "frame": _decoder(FrameHead),
    "pos": _decoder(Positions),
    "hb": _decoder(Beat),
    "end": _decoder(End),
}


def _topic(parts: Sequence[Buffer]) -> tuple[str, str]:
    if len(parts) < 2 or len(parts[0]) > 128:
        raise DecodeError(f"{len(parts)} parts, expected a short topic and a header")
    topic = bytes(parts[0])
    if not topic.startswith(MAGIC):
        raise DecodeError(f"topic {topic[:40]!r}, expected {MAGIC!r}…")
    names = topic[len(MAGIC) :].decode("ascii").split("/")
    if len(names) != 2:
        raise DecodeError(f"topic {topic[:40]!r}, expected <stream>/<kind>")
    return names[0], names[1]


def _describe(
    message: Message | EncodedFrame,
) -> tuple[str, str, dict[str, Any], list[Buffer]]:
    """Return stream, kind, the header's own fields, and the buffers."""
    if isinstance(message, EncodedFrame):
        return _describe_frame(message)
    if isinstance(message, Samples):
        return _describe_samples(message)
    if isinstance(message, ScanStart):
        return message.stream, "start", _start_fields(message), []
    if isinstance(message, ScanEnd):
        fields = {"why": message.reason, "n": message.sent}
        return message.stream, "end", fields, []
    if isinstance(message, Heartbeat):
        return message.stream, "hb", {}, []
    raise ValueError(f"{type(message).__name__} isn't a message of this wire")


def _describe_frame(
    frame: EncodedFrame,
) -> tuple[str, str, dict[str, Any], list[Buffer]]:
    size = len(frame.payload)
    described = _buf(frame.dtype, frame.shape, frame.encoding, size)
    times = {"t0": frame.start_ns, "t1": frame.stop_ns}
    fields = {"f": frame.index, **times, "bufs": [described]}
    return "det", "frame", fields, [frame.payload]


def _describe_samples(
    samples: Samples,
) -> tuple[str, str, dict[str, Any], list[Buffer]]:
    columns = np.ascontiguousarray(np.asarray(samples.position_m, "<f8").T)
    if columns.ndim != 2 or columns.shape[0] != 2:
        raise ValueError(f"positions of shape {columns.T.shape}, expected [n, 2]")
    if not np.isfinite(columns).all():
        raise ValueError("a position isn't finite")
    bufs = [
        {"nm": name, **_buf("<f8", column.shape, "raw", column.nbytes)}
        for name, column in zip("yx", columns, strict=True)
    ]
    fields = {"i0": samples.first, "per": samples.per_frame, "bufs": bufs}
    return "pos", "pos", fields, [column.data.cast("B") for column in columns]


def _buf(dtype: str, shape: tuple[int, ...], encoding: str, n: int) -> dict[str, Any]:
    return {"dt": dtype, "sh": shape, "enc": encoding, "n": n}


def _start_fields(start: ScanStart) -> dict[str, Any]:
    geometry = start.geometry
    return {
        "n": start.frames_expected,
        "sh": start.shape,
        "dt": start.dtype,
        "geo": geometry
        and {
            "wavelength_m": geometry.wavelength_m,
            "distance_m": geometry.distance_m,
            "pixel_m": geometry.detector_pixel_m,
            "origins": dict(geometry.origins),
        },
        "dwell": start.dwell_s,
        "again": start.again,
        "meta": dict(start.meta),
    }


def _read(
    head: Head, buffers: Sequence[Buffer], limits: Limits
) -> Message | EncodedFrame | UnknownKind:
    """Build the message of a decoded header."""
    if isinstance(head, FrameHead):
        return _read_frame(head, buffers, limits)
    if isinstance(head, Positions):
        return _read_samples(head, buffers, limits)
    if isinstance(head, Start):
        return _read_start(head)
    if isinstance(head, End):
        return ScanEnd(head.r, head.s, head.why, head.n)
    if isinstance(head, Beat):
        return Heartbeat(head.r, head.s)
    return UnknownKind(head.k)


def _read_start(head: Start) -> ScanStart:
    if head.dt is not None:
        codecs.check_dtype(head.dt)
    return ScanStart(
        scan=head.r,
        stream=head.s,
        shape=head.sh,
        dtype=head.dt,
        frames_expected=head.n,
        geometry=head.geo and head.geo.build(),
        dwell_s=head.dwell,
        again=head.again,
        meta=head.meta,
    )


def _read_frame(
    head: FrameHead, buffers: Sequence[Buffer], limits: Limits
) -> EncodedFrame:
    (buf,) = head.bufs
    if len(buf.sh) != 2 or buf.enc not in codecs.ENCODINGS:
        raise DecodeError(f"frame of shape {buf.sh}, encoding {buf.enc[:20]!r}")
    nbytes = math.prod(buf.sh) * codecs.check_dtype(buf.dt).itemsize
    if nbytes > limits.max_frame_bytes:
        raise DecodeError(f"frame of {nbytes} bytes, at most {limits.max_frame_bytes}")
    _check_buffers(head.bufs, buffers)
    shape = (buf.sh[0], buf.sh[1])
    payload = buffers[0]
    return EncodedFrame(
        head.r, head.f, shape, buf.dt, buf.enc, payload, head.t0, head.t1
    )


def _read_samples(
    head: Positions, buffers: Sequence[Buffer], limits: Limits
) -> Samples:
    _check_buffers(head.bufs, buffers)
    named = {b.nm: (b, data) for b, data in zip(head.bufs, buffers, strict=True)}
    if "y" not in named or "x" not in named:
        raise DecodeError(f"positions with {list(named)}, expected y and x"[:200])
    n = math.prod(named["y"][0].sh)
    if n > limits.max_samples or head.per > limits.max_per_frame:
        raise DecodeError(f"{n} samples, {head.per} per frame: more than {limits}")
    rows = np.stack([_column(*named[name], n) for name in "yx"], axis=1)
    if not np.isfinite(rows).all():
        raise DecodeError(f"a position of samples {head.i0}… isn't finite")
    return Samples(head.r, head.i0, head.per, rows)


def _column(buf: Buf, data: Buffer, n: int) -> np.ndarray:
    if (buf.dt, buf.enc, buf.sh) != ("<f8", "raw", [n]) or len(data) != 8 * n:
        raise DecodeError(f"column {buf}, expected {n} raw <f8"[:200])
    return np.frombuffer(data, "<f8")


def _check_buffers(described: Sequence[Buf], buffers: Sequence[Buffer]) -> None:
    if [b.n for b in described] != [len(b) for b in buffers]:
        raise DecodeError(
            f"buffers of {[len(b) for b in buffers][:16]} bytes, "
            f"expected {[b.n for b in described]}"
        )
