"""Beamline wires that share no scan name, from real sockets to exposures."""

import time

import numpy as np
import pytest
import zmq

from ptystream.config import load
from ptystream.errors import ConfigError
from ptystream.ingest.scans import Event, ScanClosed
from ptystream.service.intake import Intake, encoder_table
from ptystream.wire import panda
from ptystream.wire.areadetector import encode_array
from ptystream.wire.columns import Scaling
from ptystream.wire.envelope import encode_frame
from ptystream.wire.messages import Exposure, Frame
from tests.ingest.panda_server import PandaServer

FRAMES, RATIO, PERIOD_S = 200, 10, 1e-2
FIELDS = (
    panda.Field("INENC2.VAL", "Value", "int32"),
    panda.Field("INENC3.VAL", "Value", "int32"),
    panda.Field("PCAP.TS_TRIG", "Value", "int64", Scaling(8e-9, 0.0, "s")),
)
HEADER = panda.Header(FIELDS, arm_time="2026-01-01T00:00:00.000000000Z")


def samples() -> np.ndarray:
    """A scan in x: one count a sample, ten samples an exposure."""
    rows = np.zeros(FRAMES * RATIO, HEADER.dtype)
    k = np.arange(len(rows))
    rows["INENC2.VAL.Value"], rows["INENC3.VAL.Value"] = k, 500
    rows["PCAP.TS_TRIG.Value"] = k * 125_000
    return rows


def frame(index: int) -> Frame:
    time_ns = int((100 + index * PERIOD_S) * 1e9)
    return Frame("", index, np.full((8, 8), index, "<u2"), time_ns, time_ns)


def taken(intake: Intake, until: type[Event]) -> list[Event]:
    got: list[Event] = []
    deadline = time.monotonic() + 20
    while not any(isinstance(event, until) for event in got):
        assert time.monotonic() < deadline, f"only {len(got)} events"
        got += intake.backlog.take(1000, 0.1)
    return got


@pytest.mark.parametrize("lag", [0, 4])
def test_arrays_and_a_box_are_joined_by_index_as_the_settings_say(lag):
    rows = samples()
    cuts = range(0, len(rows), 250)
    blocks = [panda.encode_block(rows[k : k + 250].tobytes()) for k in cuts]
    end = panda.encode_end(len(rows), "Disarmed")
    # The box is armed, its rows come when the frames do.
    speech = [b"OK\n", panda.encode_header(HEADER), b"", *blocks, end]
    with (
        zmq.Context() as context,
        context.socket(zmq.XPUB) as publisher,
        PandaServer([speech], stay=True) as box,
    ):
        publisher.setsockopt(zmq.LINGER, 0)
        port = publisher.bind_to_random_port("tcp://127.0.0.1")
        flags = [
            f"detector.endpoint=array+sub://127.0.0.1:{port}",
            f"positions.endpoint={box.url}",
            'positions.x={column="INENC2.VAL", scale_m=1e-9}',
            'positions.y={column="INENC3.VAL", scale_m=-1e-9, offset_m=1e-6}',
            f"positions.lag={lag}",
        ]
        with Intake(load(environment={}, flags=flags)) as intake:
            assert publisher.poll(10_000)
            box.go_on.set()
            for index in range(FRAMES):
                told = {"NumImages": FRAMES}
                array = encode_array(encode_frame(frame(index)), attributes=told)
                publisher.send_multipart(array)
            got = taken(intake, ScanClosed)
            stats = intake.stats()
    exposures = [event for event in got if isinstance(event, Exposure)]
    assert sorted(e.frame.index for e in exposures) == list(range(FRAMES - lag))
    for e in exposures:
        first = RATIO * (e.frame.index + lag)
        assert (e.frame.counts == e.frame.index).all()
        np.testing.assert_allclose(e.start_m, (0.5e-6, first * 1e-9), atol=1e-15)
        np.testing.assert_allclose(e.mean_m, (0.5e-6, (first + 4.5) * 1e-9))
        np.testing.assert_allclose(e.end_m, (0.5e-6, (first + 9) * 1e-9))
    assert stats.positions.sampled.per_frame == RATIO
    assert stats.positions.sampled.reason == ""
    assert (stats.positions.connected, stats.receiver.decode_errors) == (True, 0)


def test_one_axis_alone_is_a_config_error():
    settings = load(environment={}, flags=['positions.y={column="INENC3.VAL"}'])
    with pytest.raises(ConfigError, match=r"positions\.y and positions\.x"):
        encoder_table(settings.positions)


def test_without_axes_there_is_no_table():
    assert encoder_table(load(environment={}).positions) is None
