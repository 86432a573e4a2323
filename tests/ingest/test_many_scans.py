"""A sender that begins scan after scan: every book of them has an end."""

import gc
import json
import sys
from collections.abc import Callable
from itertools import count, islice

import msgspec
import numpy as np
import pytest

from ptystream.ingest.protocols import PROTOCOLS
from ptystream.ingest.scans import ScanTracker
from ptystream.ingest.subscription import SequenceCounter
from ptystream.wire import cbor
from ptystream.wire.envelope import Envelope, Limits
from ptystream.wire.karabo import encode_train
from ptystream.wire.messages import Frame, Samples, ScanEnd, ScanStart

SCANS = 100_000
WARM = 2_000
MOST_BLOCKS = 2_000  # not even the uids of 5000 scans would fit

PIXEL = np.ones((1, 1), "|u1")
PLACES = np.ones((1, 2))
Step = Callable[[int], object]


def started(named: bool) -> Step:
    """Scans that only begin."""
    tracker = ScanTracker(named=named)
    return lambda i: tracker.feed(ScanStart(f"s{i}", "det"), i / 10)


def never_started() -> Step:
    """Frames and positions of scans that nobody announced."""
    tracker = ScanTracker()

    def step(i: int) -> None:
        tracker.feed(Frame(f"s{i}", 0, PIXEL), i / 10)
        tracker.feed(Samples(f"s{i}", 0, 1, PLACES), i / 10)

    return step


def whole() -> Step:
    """Whole scans, of one exposure."""
    tracker = ScanTracker()

    def step(i: int) -> None:
        tracker.feed(ScanStart(f"s{i}", "det"), i / 10)
        tracker.feed(Frame(f"s{i}", 0, PIXEL), i / 10)
        tracker.feed(Samples(f"s{i}", 0, 1, PLACES), i / 10)
        tracker.feed(ScanEnd(f"s{i}", "det", "complete", 1), i / 10)

    return step


def numbered() -> Step:
    """Streams of scans, each with its own sequence."""
    counter, message = SequenceCounter(), ScanStart("s", "det")
    return lambda i: counter.gap(Envelope(message, f"d{i}", f"s{i}", 5, 0))


def decoded(name: str, parts_of: Callable[[int], list[bytes]]) -> Step:
    """Scans as a decoder meets them."""
    decoder = PROTOCOLS[name].decoder(Limits())

    def step(i: int) -> None:
        for _ in decoder.decode(parts_of(i)):
            pass

    return step


def dectris(i: int) -> list[bytes]:
    head = {"htype": "dheader-1.0", "header_detail": "basic", "series": i}
    named = {"ptystream_scan": f"s{i}"}
    return [json.dumps(part).encode() for part in (head, {"nimages": 2}, named)]


def dectris2(i: int) -> list[bytes]:
    start = {"type": "start", "series_id": i, "user_data": {"ptystream_scan": f"s{i}"}}
    return [cbor.encode(start)]


def array(i: int) -> list[bytes]:
    head = {"htype": "array-1.0", "shape": [1, 1], "type": "uint8", "frame": 0}
    return [msgspec.json.encode({**head, "ndattr": {"uid": f"s{i}"}}), b"x"]


def karabo(i: int) -> list[bytes]:
    backwards = SCANS + WARM - i
    return [bytes(p) for p in encode_train(backwards, "a", PIXEL[np.newaxis])]


def panda_json(i: int) -> list[bytes]:
    return [msgspec.json.encode({"msg_type": "start", "arm_time": f"s{i}"})]


STEPS: dict[str, Callable[[], Step]] = {
    "started": lambda: started(named=True),
    "started, without names in common": lambda: started(named=False),
    "never started": never_started,
    "whole": whole,
    "numbered": numbered,
    "dectris": lambda: decoded("dectris", dectris),
    "dectris2": lambda: decoded("dectris2", dectris2),
    "areadetector": lambda: decoded("array", array),
    "karabo": lambda: decoded("karabo", karabo),
    "panda-json": lambda: decoded("panda-json", panda_json),
}


def growth(step: Step, scans: int) -> int:
    """Return how many more blocks of memory are in use after so many scans."""
    numbers = count()
    for number in islice(numbers, WARM):
        step(number)
    gc.collect()
    before = sys.getallocatedblocks()
    for number in islice(numbers, scans):
        step(number)
    gc.collect()
    return sys.getallocatedblocks() - before


@pytest.mark.parametrize("name", STEPS)
def test_memory_is_flat_over_thousands_of_scans(name: str):
    assert growth(STEPS[name](), 5_000) < MOST_BLOCKS


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", STEPS)
def test_memory_is_flat_over_a_hundred_thousand_scans(name: str):
    assert growth(STEPS[name](), SCANS) < MOST_BLOCKS


def test_a_book_without_an_end_is_noticed():
    kept: set[str] = set()
    assert growth(lambda i: kept.add(f"s{i}"), 5_000) > MOST_BLOCKS
