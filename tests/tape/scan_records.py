"""A small scan on the native wire, as records."""

import numpy as np

from ptystream.tape.format import Record
from ptystream.wire import native
from ptystream.wire.messages import (
    Frame,
    Geometry,
    Message,
    Samples,
    ScanEnd,
    ScanStart,
)

MS = 1_000_000
GEOMETRY = Geometry(1e-10, 1.0, (1e-4, 1e-4))
PIXELS = np.random.default_rng(0).poisson(3, (8, 8)).astype(np.uint16)


def messages(n: int, scan: str = "s") -> list[tuple[str, Message]]:
    """Positions come ten at a time, just before their frames."""
    found: list[tuple[str, Message]] = [
        ("det", ScanStart(scan, "det", (8, 8), "<u2", n, GEOMETRY)),
        ("pos", ScanStart(scan, "pos")),
    ]
    for i in range(n):
        if i % 10 == 0:
            rows = min(10, n - i)
            places = np.arange(2.0 * i, 2.0 * (i + rows)).reshape(rows, 2) * 1e-9
            found.append(("pos", Samples(scan, i, 1, places)))
        counts = PIXELS + np.uint16(i)
        found.append(("det", Frame(scan, i, counts)))
    found += [(s, ScanEnd(scan, s, "complete", n)) for s in ("pos", "det")]  # type: ignore[arg-type]
    return found


def records(n: int = 200, scan: str = "s", at_ns: int = 0) -> list[Record]:
    """One message a millisecond."""
    return [
        Record(
            stream,
            tuple(
                bytes(part)
                for part in native.encode(m, seq=i, sent_ns=1, encoding="bslz4")
            ),
            at_ns + i * MS,
            i,
        )
        for i, (stream, m) in enumerate(messages(n, scan))
    ]
