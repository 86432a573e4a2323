from dataclasses import replace

import numpy as np
import pytest

from ptystream.errors import DecodeError
from ptystream.wire import panda
from ptystream.wire.columns import Columns
from ptystream.wire.envelope import Limits
from ptystream.wire.messages import ScanEnd, ScanStart
from ptystream.wire.panda_stream import PandaDecoder
from tests.wire.test_panda import HEADER, stream, table


def messages(data: bytes, decoder: PandaDecoder | None = None) -> list[object]:
    decoder = decoder or PandaDecoder(Limits())
    return [envelope.message for envelope in decoder.decode([data])]


def acquisition(header: panda.Header, n: int, reason: str = "Ok") -> bytes:
    block = panda.encode_block(table(n).tobytes())
    return panda.encode_header(header) + block + panda.encode_end(n, reason)


def test_a_scan_begins_has_rows_and_ends():
    start, rows, end = messages(stream(table(5), []))
    scan = f"panda-{HEADER.arm_time}"
    assert isinstance(start, ScanStart)
    assert (start.scan, start.stream, start.again) == (scan, "pos", False)
    assert start.meta["arm_time"] == HEADER.arm_time
    assert "INENC1.VAL.Mean" in start.meta["columns"]
    assert isinstance(rows, Columns)
    assert (rows.scan, rows.first, len(rows)) == (scan, 0, 5)
    assert end == ScanEnd(scan, "pos", "complete", 5)


def test_who_joins_late_is_told_and_keeps_the_numbers():
    start, rows, end = messages(acquisition(replace(HEADER, missed=9), 3))
    assert isinstance(start, ScanStart)
    assert isinstance(rows, Columns)
    assert start.again
    assert rows.first == 9
    assert end == ScanEnd(start.scan, "pos", "complete", 12)


def test_old_boxes_scans_are_numbered_and_a_late_one_is_gone_on_with():
    old = replace(HEADER, arm_time="")
    decoder = PandaDecoder(Limits())
    names = []
    for missed in 0, 0, 2:
        decoder.reset()
        start, *_ = messages(acquisition(replace(old, missed=missed), 3), decoder)
        assert isinstance(start, ScanStart)
        names.append(start.scan)
    assert names == ["panda-1", "panda-2", "panda-2"]


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("Disarmed", "complete"),
        ("Early disconnect", "aborted"),
        ("Data overrun", "overrun"),
        ("Driver data overrun", "overrun"),
        ("Framing error", "error"),
        ("DMA data error", "error"),
    ],
)
def test_why_it_ended(reason, told):
    *_, end = messages(acquisition(HEADER, 3, reason))
    assert isinstance(end, ScanEnd)
    assert (end.reason, end.sent) == (told, 3)


def test_a_connection_that_broke_is_not_gone_on_with():
    decoder = PandaDecoder(Limits())
    whole = stream(table(5), [])
    messages(whole[: len(whole) // 2], decoder)
    decoder.reset()
    assert len(messages(whole, decoder)) == 3


def test_what_came_before_the_bad_byte_is_kept():
    decoder = PandaDecoder(Limits())
    envelopes = iter(decoder.decode([stream(table(5), []) + b"nonsense\n"]))
    got = [next(envelopes).message for _ in range(3)]
    assert isinstance(got[-1], ScanEnd)
    with pytest.raises(DecodeError):
        next(envelopes)


def test_batches_are_bounded():
    _, *rows, _ = messages(stream(table(10), []), PandaDecoder(Limits(max_samples=4)))
    assert [(r.first, len(r)) for r in rows if isinstance(r, Columns)] == [
        (0, 4),
        (4, 4),
        (8, 2),
    ]
    values = np.concatenate([r.columns["INENC1.VAL.Mean"] for r in rows])  # type: ignore[attr-defined]
    np.testing.assert_array_equal(values, 10 * np.arange(10))
