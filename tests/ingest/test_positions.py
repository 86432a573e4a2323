import numpy as np
import pytest

from ptystream.ingest.endpoint import parse_endpoint
from ptystream.ingest.positions import PositionReader
from ptystream.ingest.sender import Sender
from ptystream.wire.messages import Frame, Message, Samples, ScanEnd, ScanStart

ROWS = np.arange(8.0).reshape(4, 2)


def collect(reader: PositionReader, n: int) -> list[Message]:
    got: list[Message] = []
    while len(got) < n:
        assert reader.socket.poll(5000)
        got += reader.poll(now_s=12.5)
    return got


@pytest.mark.parametrize("pattern", ["pub", "push"])
def test_positions_come_with_the_time_of_their_arrival(pattern):
    scheme = {"pub": "ptys+sub", "push": "ptys+pull"}[pattern]
    with Sender(pattern=pattern) as sender:
        url = sender.address.replace("tcp", scheme)
        with PositionReader(parse_endpoint(url)) as reader:
            assert sender.wait_for_subscribers(5)
            sender.send(ScanStart("a", "pos"))
            sender.send(Frame("a", 0, np.zeros((2, 2), "u1")))
            sender.send(ScanStart("a", "det"))
            sender.send(Samples("a", 0, 2, ROWS))
            sender.send(ScanEnd("a", "pos", "complete"))
            start, samples, end = collect(reader, 3)
            assert start == ScanStart("a", "pos")
            assert isinstance(samples, Samples)
            np.testing.assert_array_equal(samples.position_m, ROWS)
            assert samples.arrived_s == 12.5
            assert end == ScanEnd("a", "pos", "complete", 4)
            stats = reader.stats()
            assert (stats.samples, stats.lost_on_wire, stats.decode_errors) == (4, 0, 0)
            # A SUB socket has asked for positions only, a PULL socket gets all.
            assert stats.foreign == (0 if pattern == "pub" else 2)
            assert stats.last_message_s == 12.5


def test_at_most_as_many_as_asked_for():
    with Sender() as sender:
        url = sender.address.replace("tcp", "ptys+sub")
        with PositionReader(parse_endpoint(url)) as reader:
            assert sender.wait_for_subscribers(5)
            for first in range(5):
                sender.send(Samples("a", first * 4, 2, ROWS))
            assert reader.socket.poll(5000)
            few = reader.poll(0, most=2)
            assert 1 <= len(few) <= 2
            assert len(collect(reader, 5 - len(few))) == 5 - len(few)


def test_too_many_samples_at_once_are_refused():
    with Sender() as sender:
        url = sender.address.replace("tcp", "ptys+sub")
        with PositionReader(parse_endpoint(url), max_samples=3) as reader:
            assert sender.wait_for_subscribers(5)
            sender.send(Samples("a", 0, 2, ROWS))
            sender.send(Samples("a", 4, 2, ROWS[:3]))
            assert len(collect(reader, 1)) == 1
            assert reader.stats().decode_errors == 1
