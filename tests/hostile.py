"""What a bad day sends: each of these goes in between good data, and must be counted.

Messages go through a real sender, which numbers them; raw parts go as they are.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import msgspec
import numpy as np

from ptystream.wire import native
from ptystream.wire.messages import (
    Frame,
    Heartbeat,
    Message,
    Samples,
    ScanEnd,
    ScanStart,
)

Parts = list[bytes]
Item = tuple[str, Message | Parts]

UNDECODABLE = 'messages_lost_total{{reason="undecodable",stream="{}"}}'
UNKNOWN = 'messages_lost_total{{reason="unknown",stream="{}"}}'
STRAYS = 'strays_total{{stream="{}"}}'
LOST = 'frames_lost_total{{reason="{}"}}'


@dataclass(frozen=True)
class Hostile:
    """One bad thing, and the metric that counts it (none: it is harmless).

    ``make`` gets the scan's uid and a frame of it that was sent before.
    """

    name: str
    make: Callable[[str, Frame], list[Item]]
    counted: str | None


def parts_of(message: Message, **header: object) -> Parts:
    """Encode a message, then change its header behind the encoder's back."""
    topic, head, *buffers = (bytes(p) for p in native.encode(message, seq=0, sent_ns=0))
    changed = msgspec.msgpack.decode(head) | header
    return [topic, msgspec.msgpack.encode(changed), *buffers]


def beyond(frame: Frame, counts: np.ndarray | None = None, index: int = 1000) -> Frame:
    """Return a frame of an index that no position has."""
    return replace(
        frame, index=index, counts=frame.counts if counts is None else counts
    )


def buf(frame: Frame, **changes: object) -> list[dict[str, object]]:
    """Describe a raw frame's buffer, with changes."""
    n, shape = frame.counts.nbytes, list(frame.counts.shape)
    return [{"dt": "<u2", "sh": shape, "enc": "raw", "n": n} | changes]


def samples(scan: str, first: int, rows: object, per_frame: int = 10) -> Samples:
    """Return encoder rows."""
    return Samples(scan, first, per_frame, np.asarray(rows, float).reshape(-1, 2))


def anywhere(scan: str, frame: Frame, rows: object) -> list[Item]:
    """Return a good frame that the encoders saw at these 10 places."""
    return [
        ("pos", samples(scan, 10_000, rows)),
        ("det", beyond(frame)),
    ]


def not_finite(scan: str) -> Parts:
    """Return positions with a NaN, which our own encoder refuses to make."""
    topic, head, y, x = parts_of(samples(scan, 5000, np.ones((10, 2))))
    return [topic, head, b"\xff" * 8 + y[8:], x]


def nested(depth: int) -> bytes:
    """Return msgpack of lists within lists."""
    return b"\x91" * depth + b"\x90"


RNG = np.random.default_rng(7)
NOISE = RNG.bytes(300)
FRAME, POS = b"ptys1/det/frame", b"ptys1/pos/pos"
WIDE = np.ones((16, 16), "<u2")

CORPUS = (
    Hostile("noise", lambda s, f: [("det", [FRAME, NOISE])], UNDECODABLE.format("det")),
    Hostile(
        "noisy positions",
        lambda s, f: [("pos", [POS, NOISE, NOISE])],
        UNDECODABLE.format("pos"),
    ),
    Hostile("no header", lambda s, f: [("det", [FRAME])], UNDECODABLE.format("det")),
    Hostile(
        "two hundred parts",
        lambda s, f: [("det", [FRAME] + [b"x"] * 200)],
        UNDECODABLE.format("det"),
    ),
    Hostile(
        "nested without end",
        lambda s, f: [("det", [FRAME, nested(60_000)])],
        UNDECODABLE.format("det"),
    ),
    Hostile(
        "truncated pixels",
        lambda s, f: [("det", [p[:1000] for p in parts_of(f)])],
        UNDECODABLE.format("det"),
    ),
    Hostile(
        "another version",
        lambda s, f: [("det", parts_of(f, v=99))],
        UNDECODABLE.format("det"),
    ),
    Hostile(
        "a header that is no map",
        lambda s, f: [("det", [FRAME, msgspec.msgpack.encode([1, 2]), b""])],
        UNDECODABLE.format("det"),
    ),
    Hostile(
        "a terabyte is claimed",
        lambda s, f: [("det", parts_of(f, bufs=buf(f, sh=[1 << 20, 1 << 20])))],
        UNDECODABLE.format("det"),
    ),
    Hostile(
        "compressed rubbish",
        lambda s, f: [("det", parts_of(f, bufs=buf(f, enc="bslz4")))],
        UNDECODABLE.format("det"),
    ),
    Hostile(
        "a negative index",
        lambda s, f: [("det", parts_of(f, f=-1))],
        UNDECODABLE.format("det"),
    ),
    Hostile(
        "an index of 63 bits",
        lambda s, f: [("det", parts_of(f, f=2**63 - 1))],
        UNDECODABLE.format("det"),
    ),
    Hostile(
        "a kind from the future",
        lambda s, f: [("det", [b"ptys1/det/video", *parts_of(f, k="video")[1:]])],
        UNKNOWN.format("det"),
    ),
    Hostile(
        "wrong shape",
        lambda s, f: [("det", beyond(f, WIDE))],
        LOST.format("wrong_shape"),
    ),
    Hostile(
        "far-future index",
        lambda s, f: [("det", beyond(f, index=2**40 - 1))],
        LOST.format("no_position"),
    ),
    Hostile("repeated index", lambda s, f: [("det", f)], LOST.format("duplicate")),
    Hostile(
        "a frame of no scan",
        lambda s, f: [("det", replace(f, scan="nobody's"))],
        None,
    ),
    Hostile(
        "an end of no scan",
        lambda s, f: [("det", ScanEnd("nobody's", "det", "complete", 5))],
        None,
    ),
    Hostile(
        "a beat of no scan", lambda s, f: [("det", Heartbeat("nobody's", "det"))], None
    ),
    Hostile(
        "a start again, of another shape",
        lambda s, f: [("det", ScanStart(s, "det", (16, 16), "<u2", again=True))],
        None,
    ),
    Hostile(
        "a frame among the positions",
        lambda s, f: [("pos", [b"ptys1/pos/frame", *parts_of(f)[1:]])],
        UNDECODABLE.format("pos"),
    ),
    Hostile(
        "NaN positions",
        lambda s, f: [("pos", not_finite(s))],
        UNDECODABLE.format("pos"),
    ),
    Hostile(
        "no samples a frame",
        lambda s, f: [("pos", parts_of(samples(s, 5000, np.ones((10, 2))), per=0))],
        UNDECODABLE.format("pos"),
    ),
    Hostile(
        "other samples a frame",
        lambda s, f: [("pos", samples(s, 5000, np.ones((10, 2)), per_frame=7))],
        None,
    ),
    Hostile(
        "samples again", lambda s, f: [("pos", samples(s, 0, np.ones((10, 2))))], None
    ),
    Hostile(
        "far-future samples",
        lambda s, f: [("pos", samples(s, 2**40 - 10, np.ones((10, 2))))],
        None,
    ),
    Hostile(
        "an encoder's glitch of a kilometre",
        lambda s, f: anywhere(s, f, np.full((10, 2), 1e3)),
        LOST.format("far"),
    ),
    Hostile(
        "an encoder's glitch out of all numbers",
        lambda s, f: anywhere(s, f, np.full((10, 2), -1e300)),
        LOST.format("far"),
    ),
)
"""Each after half of a good scan; the other half follows."""
