from pathlib import Path

import numpy as np
import pytest

from ptystream.tape.cxi import CxiScan
from ptystream.tape.cxi_write import write_cxi
from ptystream.tape.format import Record
from ptystream.tape.log import TapeReader, TapeWriter
from ptystream.tape.source import TapeMessages, file_messages
from ptystream.wire import native
from ptystream.wire.codecs import Encoding
from ptystream.wire.messages import (
    Frame,
    Geometry,
    Heartbeat,
    Message,
    Samples,
    ScanEnd,
    ScanStart,
)

COUNTS = np.random.default_rng(1).poisson(2, (3, 16, 12)).astype(np.uint16)
MESSAGES: list[tuple[str, Message]] = [
    ("det", ScanStart("s", "det", (16, 12), "<u2", 3)),
    ("pos", ScanStart("s", "pos")),
    ("pos", Samples("s", 0, 1, np.arange(6.0).reshape(3, 2))),
    *(("det", Frame("s", i, c, 10 * i, 10 * i + 9)) for i, c in enumerate(COUNTS)),
    ("det", Heartbeat("s", "det")),
    ("det", ScanEnd("s", "det", "complete", 3)),
]


def tape(path: Path, encoding: Encoding = "raw") -> Path:
    with TapeWriter(path, {}) as writer:
        for i, (stream, message) in enumerate(MESSAGES):
            parts = native.encode(message, seq=i, sent_ns=1, encoding=encoding)
            writer.append(stream, parts, i * 10**9, 0)
    return path


@pytest.mark.parametrize("encoding", ["raw", "lz4", "bslz4"])
def test_a_tape_gives_the_messages_that_were_sent(
    tmp_path: Path, encoding: Encoding
) -> None:
    with TapeReader(tape(tmp_path / "t", encoding)) as reader:
        found = list(TapeMessages(reader))
    assert [stream for stream, _ in found] == [stream for stream, _ in MESSAGES]
    for i, ((_, got), (_, sent)) in enumerate(zip(found, MESSAGES, strict=True)):
        assert type(got) is type(sent)
        if isinstance(got, Frame) and isinstance(sent, Frame):
            assert (got.index, got.start_ns, got.stop_ns) == (i - 3, *times(sent))
            assert (got.counts == sent.counts).all()
            assert got.arrived_s == i
        elif isinstance(got, Samples) and isinstance(sent, Samples):
            assert (got.position_m == sent.position_m).all()
        else:
            assert got == sent


def times(frame: Frame) -> tuple[int, int]:
    return frame.start_ns, frame.stop_ns


def test_what_does_not_decode_is_counted_not_raised(tmp_path: Path) -> None:
    with TapeReader(tape(tmp_path / "t", "bslz4")) as reader:
        records = list(reader)
    future = [p.replace(b"hb", b"zz") for p in map(bytes, records[6].parts)]
    torn = (*records[3].parts[:2], bytes(len(records[3].parts[2])))
    records[3:3] = [
        Record("det", (b"another protocol",), 0, 0),
        Record("det", (), 0, 0),
        Record("det", torn, 0, 0),
        Record("det", tuple(future), 0, 0),
    ]
    messages = TapeMessages(records)
    for _ in range(2):
        assert len(list(messages)) == len(MESSAGES)
        assert (messages.bad, messages.unknown) == (3, 1)


def test_a_file_comes_as_a_scan_would(tmp_path: Path) -> None:
    path = tmp_path / "scan.cxi"
    n = 130
    frames = np.arange(n, dtype=np.uint16)[:, None, None] * np.ones(
        (1, 2, 2), np.uint16
    )
    positions = np.arange(2.0 * n).reshape(n, 2) * 1e-9
    write_cxi(path, frames, positions, Geometry(1e-10, 1.0, (1e-4, 1e-4)))
    with CxiScan(path) as cxi:
        found = list(file_messages(cxi, "uid"))
        start = cxi.start("uid")
    assert {m.scan for _, m in found} == {"uid"}
    assert [m for _, m in found[:2]] == [start, ScanStart("uid", "pos", None, None, n)]
    assert [m for _, m in found[-2:]] == [
        ScanEnd("uid", "pos", "complete", n),
        ScanEnd("uid", "det", "complete", n),
    ]
    known: list[list[float]] = []
    for stream, message in found[2:-2]:
        if isinstance(message, Samples):
            assert (stream, message.first, message.per_frame) == ("pos", len(known), 1)
            known += message.position_m.tolist()
        else:
            assert isinstance(message, Frame)
            assert (message.counts == message.index).all()
            assert message.index < len(known) <= message.index + 64
    assert known == positions.tolist()
