import time
from collections.abc import Callable

import numpy as np
import pytest
import zmq

from ptystream.ingest.encoders import Axis, EncoderTable
from ptystream.ingest.endpoint import parse_endpoint
from ptystream.ingest.positions import PositionReader
from ptystream.ingest.sender import Sender
from ptystream.wire import panda
from ptystream.wire.columns import Columns
from ptystream.wire.messages import Frame, Message, Samples, ScanEnd, ScanStart
from ptystream.wire.panda_json import Dialect, PandaJsonEncoder
from tests.ingest.panda_server import PandaServer, acquisition

ROWS = np.arange(8.0).reshape(4, 2)


def wait(reader: PositionReader) -> None:
    poller = zmq.Poller()
    poller.register(reader.pollable, zmq.POLLIN)
    assert poller.poll(5000)


def collect(reader: PositionReader, n: int) -> list[Message]:
    got: list[Message] = []
    while len(got) < n:
        wait(reader)
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
            wait(reader)
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


TABLE = EncoderTable(Axis("INENC3.VAL", -1e-9), Axis("INENC2.VAL", 1e-9))
PERIOD_S = 1e-2


def rows(first: int, n: int) -> Columns:
    """Ten samples a frame: x goes 1 nm a sample, y 2 nm against its encoder."""
    k = np.arange(first, first + n, dtype=float)
    columns = {"INENC2.VAL.Value": k, "INENC3.VAL.Value": -2 * k}
    return Columns("", first, {**columns, "PCAP.TS_TRIG.Value": k * PERIOD_S / 10})


def published(
    messages: list[list[bytes]], read: Callable[[PositionReader], list[Message]]
) -> list[Message]:
    """What a reader makes of messages that a real socket publishes."""
    with zmq.Context() as context, context.socket(zmq.XPUB) as publisher:
        publisher.setsockopt(zmq.LINGER, 0)
        port = publisher.bind_to_random_port("tcp://127.0.0.1")
        endpoint = parse_endpoint(f"panda-json+sub://127.0.0.1:{port}")
        with PositionReader(endpoint, table=TABLE) as reader:
            assert publisher.poll(5000)
            publisher.recv()
            for parts in messages:
                publisher.send_multipart(parts)
            return read(reader)


@pytest.mark.parametrize("dialect", ["hxn", "maxiv"])
def test_json_rows_wait_for_the_detectors_pace_and_a_lost_one_shifts_nothing(
    dialect: Dialect,
):
    encoder = PandaJsonEncoder(dialect)
    messages = [encoder.start("2025-02-28T18:44:22.905865051Z")]
    messages += [encoder.rows(rows(41 * k, 41)) for k in range(10)]
    messages.append(encoder.end())
    del messages[4]  # the samples from 123 to 163

    def read(reader: PositionReader) -> list[Message]:
        reader.observe([ScanStart("series-1", "det")])
        assert isinstance(collect(reader, 1)[0], ScanStart)
        deadline = time.monotonic() + 5
        while reader.stats().samples < 369 and time.monotonic() < deadline:
            assert reader.poll(12.5) == []  # nobody knows yet how many make a frame
        for index in range(41):
            start_ns = int(1e9 + index * PERIOD_S * 1e9)
            counts = np.zeros((1, 1), "u1")
            reader.observe([Frame("series-1", index, counts, start_ns)])
        got = reader.poll(12.5)
        while not isinstance(got[-1], ScanEnd):
            got += reader.poll(12.5)
        stats = reader.stats()
        assert (stats.lost_on_wire, stats.sampled.lost) == (1, 41)
        assert (stats.sampled.per_frame, stats.sampled.waiting) == (10, 0)
        return got

    *samples, end = published(messages, read)
    assert end == ScanEnd(end.scan, "pos", "complete", 410)
    numbers = []
    for batch in samples:
        assert isinstance(batch, Samples)
        assert (batch.per_frame, batch.arrived_s) == (10, 12.5)
        k = batch.first + np.arange(len(batch.position_m))
        np.testing.assert_allclose(batch.position_m, np.stack([2e-9 * k, 1e-9 * k], 1))
        numbers += k.tolist()
    assert numbers == [k for k in range(410) if not 123 <= k < 164]


def test_a_box_is_read_through_the_same_reader():
    fields = (
        panda.Field("PCAP.GATE_DURATION", "Value", "uint32"),
        panda.Field("INENC3.VAL", "Diff", "int32"),
        panda.Field("INENC2.VAL", "Diff", "int32"),
        panda.Field("INENC3.VAL", "Mean", "int64"),
        panda.Field("INENC2.VAL", "Mean", "int64"),
    )
    header = panda.Header(fields, arm_time="2026-01-01T00:00:00.000000000Z")
    packed = np.zeros(100, header.dtype)
    k = np.arange(100)
    packed["PCAP.GATE_DURATION.Value"] = 125
    packed["INENC2.VAL.Mean"] = 125 * k
    packed["INENC2.VAL.Diff"] = 1
    speech = [b"OK\n", acquisition(header, packed.tobytes(), 100)]
    with PandaServer([speech], stay=True) as box:
        with PositionReader(parse_endpoint(box.url), table=TABLE) as reader:
            start, samples, end = collect(reader, 3)
            stats = reader.stats()
    assert isinstance(start, ScanStart)
    assert isinstance(samples, Samples)
    assert samples.per_frame == 1
    np.testing.assert_allclose(samples.position_m[:, 1], 1e-9 * k)
    np.testing.assert_allclose(samples.start_m[:, 1], 1e-9 * (k - 0.5))
    np.testing.assert_allclose(samples.end_m[:, 1], 1e-9 * (k + 0.5))
    assert end == ScanEnd(start.scan, "pos", "complete", 100)
    assert (stats.connected, stats.samples, stats.decode_errors) == (True, 100, 0)
