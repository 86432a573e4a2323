import dataclasses
from typing import Any

import numpy as np
import pytest

from ptystream.buffers.ring import Ring
from ptystream.errors import DecodeError
from ptystream.ingest.records import read_record, write_frame, write_message
from ptystream.wire.envelope import encode_frame
from ptystream.wire.headers import MAX_INDEX
from ptystream.wire.messages import Frame, Message, Samples, ScanEnd, ScanStart

START = ScanStart("s", "det", (2, 2), "<u2", frames_expected=3)


def read(ring: Ring) -> Message:
    record = ring.peek()
    assert record is not None
    try:
        return read_record(record)
    finally:
        ring.release()


@pytest.mark.parametrize(
    "message",
    [START, ScanEnd("s", "pos", "aborted", 7), Samples("s", 4, 2, np.ones((6, 2)))],
    ids=lambda m: type(m).__name__,
)
def test_what_is_written_is_read(message: Any):
    with Ring.create(1 << 16) as ring:
        assert write_message(ring, message, urgent=True)
        found: Any = read(ring)
        assert type(found) is type(message)
        for field in dataclasses.fields(message):
            if field.name != "arrived_s":
                wanted = getattr(message, field.name)
                np.testing.assert_array_equal(getattr(found, field.name), wanted)


@pytest.mark.parametrize(
    "change",
    [
        {"frames_expected": MAX_INDEX},
        {"scan": ""},
        {"scan": "x" * 257},
        {"shape": (0, 2)},
        {"meta": {"a": "x" * (64 << 10)}},
        {"meta": {"a": b"bytes"}},
        {"scan": "\ud800"},
    ],
    ids=str,
)
def test_what_the_wire_cannot_carry_costs_one_message_not_the_process(change):
    with Ring.create(1 << 16) as ring:
        with pytest.raises(DecodeError, match="ScanStart"):
            write_message(ring, dataclasses.replace(START, **change), urgent=True)
        assert ring.used == 0
        assert write_message(ring, START, urgent=True)


def test_a_corrupt_frame_leaves_nothing_behind():
    counts = np.arange(64, dtype="<u2").reshape(8, 8)
    good = encode_frame(Frame("s", 3, counts), "bslz4")
    bad = dataclasses.replace(good, payload=bytes(good.payload)[:-1])
    with Ring.create(1 << 16) as ring:
        with pytest.raises(DecodeError):
            write_frame(ring, bad)
        assert ring.peek() is None
        assert write_frame(ring, good)
        found = read(ring)
        assert isinstance(found, Frame)
        np.testing.assert_array_equal(found.counts, counts)


def test_a_full_ring_is_told():
    frame = encode_frame(Frame("s", 0, np.ones((64, 64), "<u2")))
    with Ring.create(1 << 14) as ring:
        assert write_frame(ring, frame)
        assert not write_frame(ring, frame)
        while write_message(ring, START, urgent=False):
            pass
        assert ring.capacity - ring.used < 1 << 13
