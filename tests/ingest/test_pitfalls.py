"""What goes wrong at beamlines with wires and joins; each test names its pitfall.

Streams are real bytes of the beamlines' own wires, decoded, matched and joined as the
service does, on a clock that the test moves.
"""

import contextlib
import json
import os
import select
import time
from typing import Any

import numpy as np
import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from ptystream.config import Config
from ptystream.errors import ConfigError, DecodeError
from ptystream.ingest.encoders import Axis, EncoderTable
from ptystream.ingest.endpoint import check_taking, parse_endpoint
from ptystream.ingest.pairing import Pairing
from ptystream.ingest.preprocess import Preprocess
from ptystream.ingest.preprocess_options import PreprocessOptions
from ptystream.ingest.process import ReceiverProcess
from ptystream.ingest.sampled import SampledPositions
from ptystream.ingest.scans import (
    Event,
    ScanClosed,
    ScanOpened,
    ScanTracker,
    TrackerLimits,
)
from ptystream.wire.codecs import Encoding
from ptystream.wire.columns import Columns
from ptystream.wire.curve import VARIABLES, environment_keys
from ptystream.wire.dectris import DectrisDecoder
from ptystream.wire.dectris_encode import DectrisEncoder
from ptystream.wire.envelope import EncodedFrame, Limits, UnknownKind
from ptystream.wire.messages import (
    Calibration,
    Exposure,
    Frame,
    Message,
    Samples,
    ScanEnd,
    ScanStart,
)
from ptystream.wire.panda_json import PandaJsonDecoder

SHAPE = (6, 10)
PER_FRAME = 10
BATCH = 41  # samples a message: 0.4 s of them
Parts = list[Any]


def counts(index: int, dtype: str = "<u2", shape: tuple[int, int] = SHAPE):
    return np.random.default_rng(index).integers(0, 99, shape).astype(dtype)


def series(
    n: int,
    number: int = 1,
    *,
    encoding: Encoding = "bslz4",
    dtype: str = "<u2",
    mask: np.ndarray | None = None,
) -> list[Parts]:
    """A DECTRIS series as multiparts: header, images, end; named by its number."""
    encoder = DectrisEncoder(series=number)
    if mask is not None:
        arrays = [Calibration("", "pixel_mask", mask)]
        encoder = DectrisEncoder(series=number, detail="all", calibrations=arrays)
    start = ScanStart("", "det", SHAPE, dtype, n)
    header = encoder.encode(start)[:-1]  # no appendix: nothing names the scan
    images = [
        encoder.encode(Frame("", i, counts(i, dtype)), encoding) for i in range(n)
    ]
    return [header, *images, encoder.encode(ScanEnd("", "det", "complete"))]


def flattened(messages: list[Parts]) -> list[Parts]:
    return [[part] for message in messages for part in message]


def panda(frames: int, arm: str = "10:00", *, extra: int = 0) -> list[Parts]:
    """HXN's encoder stream: ten samples a frame, batches of 41, numbered a message."""
    texts: list[dict[str, Any]] = [{"msg_type": "start", "arm_time": arm}]
    total = PER_FRAME * frames + extra
    for place, at in enumerate(range(0, total, BATCH)):
        rows = np.arange(at, min(at + BATCH, total))
        names = {"/INENC2.VAL.Value": 7.0 * rows, "/INENC3.VAL.Value": -2.0 * rows}
        data = {
            name: {
                "dtype": "float64",
                "size": len(rows),
                "starting_sample_number": at,
                "data": column.tolist(),
            }
            for name, column in names.items()
        }
        texts.append({"msg_type": "data", "frame_number": place, "datasets": data})
    texts.append({"msg_type": "stop", "emitted_frames": len(texts) - 1})
    return [[json.dumps(text).encode()] for text in texts]


def place_m(index: int) -> tuple[float, float]:
    """Where an exposure's ten samples have their mean, by the table below."""
    middle = PER_FRAME * index + (PER_FRAME - 1) / 2
    return -2.0 * middle * 1e-9, 7.0 * middle * -1e-10


class Beamline:
    """The service's way from wires to events."""

    def __init__(self, per_frame: Any = PER_FRAME, **limits: Any) -> None:
        table = EncoderTable(Axis("INENC3.VAL", 1e-9), Axis("INENC2.VAL", -1e-10))
        self.detector = DectrisDecoder(Limits())
        self.box = PandaJsonDecoder(Limits())
        self.sampled = SampledPositions(table, per_frame)
        self.tracker = ScanTracker(TrackerLimits(**limits), named=False)
        self.events: list[Event] = []

    def det(self, messages: list[Parts], now_s: float = 0.0) -> "Beamline":
        for parts in messages:
            for envelope in self.detector.decode(parts):
                self._detected(envelope.message, now_s)
        return self

    def _detected(self, message: Any, now_s: float) -> None:
        if isinstance(message, EncodedFrame):
            message = message.decode()
        if not isinstance(message, Calibration | UnknownKind | Columns):
            self.sampled.observe(message)
            self._feed(message, now_s)

    def pos(self, messages: list[Parts], now_s: float = 0.0) -> "Beamline":
        for parts in messages:
            for envelope in self.box.decode(parts):
                message = envelope.message
                assert not isinstance(message, EncodedFrame | Calibration | UnknownKind)
                for taken in self.sampled.take(message):
                    self._feed(taken, now_s)
        return self

    def _feed(self, message: Message, now_s: float) -> None:
        self.events += self.tracker.feed(message, now_s)

    def tick(self, now_s: float) -> "Beamline":
        self.events += self.tracker.tick(now_s)
        return self

    @property
    def exposures(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for e in self.events:
            if isinstance(e, Exposure):
                assert (e.frame.counts == counts(e.frame.index)).all()
                assert e.mean_m == pytest.approx(place_m(e.frame.index), abs=1e-18)
                found.setdefault(e.frame.scan, []).append(e.frame.index)
        return {scan: sorted(indices) for scan, indices in found.items()}

    @property
    def closed(self) -> list[ScanClosed]:
        return [e for e in self.events if isinstance(e, ScanClosed)]


ALL = list(range(20))


@pytest.mark.parametrize("form", [list, flattened])
def test_1_multiparts_come_whole_or_flattened(form):
    beamline = Beamline().det(form(series(20))).pos(panda(20))
    assert beamline.exposures == {"series-1": ALL}
    assert beamline.closed[0].reason == "complete"


@given(st.sets(st.integers(0, 81), min_size=1, max_size=12))
def test_1_a_part_lost_from_a_flattened_stream_never_mixes_two_frames(lost):
    flat = flattened(series(20))
    assert len(flat) == 83
    beamline = Beamline(grace_s=1).pos(panda(20))
    for place, parts in enumerate(flat):
        if place not in lost:
            with contextlib.suppress(DecodeError):
                beamline.det([parts])
    found = beamline.tick(10).exposures.get("series-1", [])  # counts are compared
    untouched = {i for i in range(20) if not lost & set(range(4 * i - 2, 4 * i + 10))}
    if lost & {0, 1}:  # without the number of images the last one can't be sure
        untouched -= {19}
    assert untouched <= set(found)


def test_2_a_publisher_drops_in_silence_and_the_gaps_are_counted():
    """Before the subscription, and where its queue is full; the numbers tell."""
    with zmq.Context() as context, context.socket(zmq.PUB) as publisher:
        publisher.setsockopt(zmq.LINGER, 0)
        port = publisher.bind_to_random_port("tcp://127.0.0.1")
        endpoint = parse_endpoint(f"dectris+sub://127.0.0.1:{port}")
        publisher.send_multipart(series(20)[0])  # nobody listens yet
        with ReceiverProcess(endpoint) as receiver:
            deadline_s = time.monotonic() + 20
            messages: list[Message] = []
            images = series(20)[1:-1]
            # The subscription needs its time: the first image is sent until it comes.
            while not messages:
                assert time.monotonic() < deadline_s
                publisher.send_multipart(images[0])
                select.select([receiver], [], [], 0.02)
                messages += receiver.drain()
            for index in (5, 6, 15):
                publisher.send_multipart(images[index])
            while not isinstance(messages[-1], Frame) or messages[-1].index < 15:
                assert time.monotonic() < deadline_s
                messages += receiver.drain()
            assert receiver.stats().lost_on_wire == 4 + 8
    assert isinstance(messages[0], ScanStart)
    assert messages[0].shape == SHAPE  # known from the image: the header was lost


@pytest.mark.parametrize("url", ["dectris+pull://h:1", "dectris2+pull://h:1"])
def test_3_pull_takes_frames_from_another_consumer_and_is_refused(url):
    how = "detector.allow_pull = true"
    with pytest.raises(ConfigError, match="allow_pull = true"):
        check_taking(parse_endpoint(url), allowed=False, how=how)
    check_taking(parse_endpoint(url), allowed=True, how=how)
    check_taking(parse_endpoint("dectris+sub://h:1"), allowed=False, how=how)


def test_4_leftovers_of_the_last_series_are_not_the_next_ones():
    first, second = series(20, 1), series(20, 2)
    beamline = Beamline().det(first[:15]).pos(panda(20, "a"))
    beamline.det(second[:1], 1).det(first[15:18], 1).det(second[1:], 1)
    beamline.pos(panda(20, "b"), 1).tick(9)
    assert beamline.exposures["series-2"] == ALL
    assert set(beamline.exposures["series-1"]) <= set(range(17))
    assert [c.scan for c in beamline.closed] == ["series-1", "series-2"]


def test_4_a_series_without_header_and_end_is_a_scan_all_the_same():
    beamline = Beamline(grace_s=3).det(series(20)[1:-1]).pos(panda(20))
    opened = beamline.events[0]
    assert isinstance(opened, ScanOpened)
    assert opened.start.shape == SHAPE
    assert beamline.exposures == {"series-1": ALL}
    assert beamline.tick(4).closed[0].reason == "complete"


def test_4_frame_numbers_that_begin_again_without_a_header_are_another_scan():
    images = series(20)[1:-1]
    beamline = Beamline(grace_s=1).det(images, 0).pos(panda(20, "a"), 0.4)
    beamline.tick(2).det(images, 5).pos(panda(20, "b"), 5.4).tick(7)
    assert beamline.exposures == {"series-1": ALL, "series-1.2": ALL}


@pytest.mark.parametrize("dtype", ["|u1", "<u2", "<u4"])
@pytest.mark.parametrize("encoding", ["raw", "lz4", "bslz4"])
def test_5_columns_come_before_rows_and_bit_depth_changes_between_scans(
    dtype, encoding
):
    decoder = DectrisDecoder(Limits())
    for number, kind in ((1, "<u2"), (2, dtype)):
        for parts in series(3, number, encoding=encoding, dtype=kind):
            for envelope in decoder.decode(parts):
                message = envelope.message
                if isinstance(message, EncodedFrame):
                    frame = message.decode()
                    assert frame.counts.shape == SHAPE
                    assert frame.counts.dtype == kind
                    assert (frame.counts == counts(frame.index, kind)).all()


@pytest.mark.parametrize("dtype", ["|u1", "<u2", "<u4"])
def test_5_both_flags_of_a_detector_are_one_to_the_engine(dtype):
    largest = int(np.iinfo(dtype).max)
    pixels = counts(0, dtype)
    pixels[0, :2] = largest, largest - 1
    (message,) = [
        e.message
        for e in DectrisDecoder(Limits()).decode(
            DectrisEncoder().encode(Frame("", 0, pixels), "bslz4")
        )
        if isinstance(e.message, EncodedFrame)
    ]
    preprocess = Preprocess(PreprocessOptions(threshold=1))
    out = np.empty(*preprocess.form(message))
    preprocess.decode_into(message, out)
    assert (out[0, :2] == largest).all()
    assert (out.ravel()[2:] == pixels.ravel()[2:]).all()


def test_6_decoding_and_cropping_cost_another_process_and_only_the_crop_comes():
    mask = np.zeros(SHAPE, "<u4")
    mask[2, 4] = 1
    with zmq.Context() as context, context.socket(zmq.PUSH) as push:
        port = push.bind_to_random_port("tcp://127.0.0.1")
        endpoint = parse_endpoint(f"dectris+pull://127.0.0.1:{port}")
        options = PreprocessOptions(size=(4, 4), centre=(3.0, 5.0))
        with ReceiverProcess(endpoint, preprocess=options) as receiver:
            for parts in series(5, mask=mask):
                push.send_multipart(parts)
            messages: list[Message] = []
            deadline_s = time.monotonic() + 20
            while not (messages and isinstance(messages[-1], ScanEnd)):
                assert time.monotonic() < deadline_s
                messages += receiver.drain()
            assert receiver.pid != os.getpid()
    start, *frames, _ = messages
    assert isinstance(start, ScanStart)
    assert start.shape == (4, 4)
    for frame in frames:
        assert isinstance(frame, Frame)
        wanted = np.where(mask > 0, 65535, counts(frame.index))[1:5, 3:7]
        assert (frame.counts == wanted).all()


def test_7_lines_come_in_bursts_and_motors_pause_longer_than_a_line():
    beamline = Beamline(idle_s=Config().scan.idle_timeout_s)
    frames, rows = series(20), panda(20)
    now_s = 0.0
    for line in range(4):
        beamline.det(frames[5 * line : 5 * line + 5], now_s)
        beamline.pos(rows[2 * line : 2 * line + 2], now_s + 0.4).tick(now_s + 0.5)
        now_s += 0.1 if line else 25.0  # a motor that takes its time, once
        beamline.tick(now_s)
    assert not beamline.closed
    assert len(beamline.exposures["series-1"]) > 10


@pytest.mark.parametrize("missing", VARIABLES)
def test_8_a_partial_set_of_curve_keys_is_refused_before_it_looks_like_silence(missing):
    public, secret = (key.decode() for key in zmq.curve_keypair())
    keys = dict(zip(VARIABLES, (public, public, secret), strict=True))
    assert environment_keys(keys) is not None
    assert environment_keys({}) is None
    with pytest.raises(ConfigError, match=missing):
        environment_keys({k: v for k, v in keys.items() if k != missing})


def test_9_positions_lag_in_batches_and_begin_again_with_each_arm():
    beamline = Beamline()
    for number, arm in ((1, "a"), (2, "b"), (3, "c")):
        at_s = 100.0 * number
        beamline.det(series(20, number)[:-1], at_s).pos(panda(20, arm), at_s + 0.4)
        beamline.det(series(20, number)[-1:], at_s + 0.5)
    assert beamline.exposures == {f"series-{n}": ALL for n in (1, 2, 3)}


@given(st.sets(st.integers(1, 5), min_size=1, max_size=4))
def test_9_a_lost_position_message_costs_its_frames_never_the_join(lost):
    messages = panda(20)
    assert len(messages) == 7
    kept = [m for i, m in enumerate(messages) if i not in lost]
    beamline = Beamline(grace_s=1).det(series(20)).pos(kept).tick(10)
    gone = {s for k in lost for s in range(BATCH * (k - 1), min(BATCH * k, 200))}
    samples = [set(range(10 * i, 10 * i + 10)) for i in ALL]
    untouched = [i for i in ALL if not samples[i] & gone]
    without = [i for i in ALL if samples[i] <= gone]
    means = {e.frame.index: e for e in beamline.events if isinstance(e, Exposure)}
    assert set(untouched) <= set(means)
    for index in untouched:
        assert means[index].mean_m == pytest.approx(place_m(index), abs=1e-18)
    assert not set(without) & set(means)
    (closed,) = beamline.closed
    assert closed.counts.join.frames_lost["no_position"] == len(without)


def test_10_samples_a_frame_are_told_by_the_totals_if_by_nothing_else():
    beamline = Beamline("auto").det(series(20)).pos(panda(20))
    beamline.tick(0.1)
    assert beamline.sampled.stats().reason != ""  # no times, no totals on this wire
    assert beamline.exposures == {}
    table = EncoderTable(Axis("y", 1.0), Axis("x", 1.0))
    sampled = SampledPositions(table)
    told: list[Message] = []
    sampled.observe(ScanStart("s", "det"))
    told += sampled.take(ScanStart("s", "pos"))
    rows = {"y": np.arange(200.0), "x": np.arange(200.0)}
    told += sampled.take(Columns("s", 0, rows))
    told += sampled.take(ScanEnd("s", "pos", "complete", 200))
    sampled.observe(ScanEnd("s", "det", "complete", 20))
    told += sampled.release()
    assert {m.per_frame for m in told if isinstance(m, Samples)} == {10}


def test_10_an_ambiguous_number_of_samples_a_frame_is_refused_with_the_numbers():
    sampled = SampledPositions(EncoderTable(Axis("y", 1.0), Axis("x", 1.0)))
    sampled.observe(ScanStart("s", "det"))
    sampled.take(ScanStart("s", "pos"))
    rows = {"y": np.arange(205.0), "x": np.arange(205.0)}
    sampled.take(Columns("s", 0, rows))
    sampled.take(ScanEnd("s", "pos", "complete", 205))
    sampled.observe(ScanEnd("s", "det", "complete", 20))
    sampled.release()
    stats = sampled.stats()
    assert stats.refused == 205
    assert "205 samples for 20 frames" in stats.reason


@pytest.mark.parametrize(
    ("frames", "positions", "extra"),
    [
        (20, 25, 0),  # fewer frames than commanded
        (25, 20, 0),  # more frames than commanded
        (20, 20, 7),  # samples that make no whole exposure
        (20, 19, 3),  # the last exposure has 3 of its 10 samples
        (1, 1, 0),
    ],
)
def test_11_the_tail_is_never_dropped_and_the_excess_counted(frames, positions, extra):
    beamline = Beamline(grace_s=1).det(series(frames))
    beamline.pos(panda(positions, extra=extra)).tick(10)
    (closed,) = beamline.closed
    join = closed.counts.join
    whole = min(frames, positions)
    partial = int(extra > 0 and frames > positions)
    assert join.paired == whole + partial
    assert join.partial == partial
    assert join.frames == join.paired + sum(join.frames_lost.values())
    assert join.samples == join.samples_used + sum(join.samples_lost.values())


def test_11_a_frame_before_the_first_sample_waits_for_it():
    frames = series(20)
    beamline = Beamline().det(frames[:8]).pos(panda(20), 0.4).det(frames[8:], 0.4)
    assert beamline.exposures == {"series-1": ALL}


def test_12_counts_axes_and_signs_are_settings_and_metres_come_out():
    beamline = Beamline().det(series(20)).pos(panda(20))
    first, second = [e for e in beamline.events if isinstance(e, Exposure)][:2]
    step = np.subtract(second.mean_m, first.mean_m)
    assert step == pytest.approx([-20e-9, -7e-9])
    assert np.subtract(first.end_m, first.start_m) == pytest.approx([-18e-9, -6.3e-9])


def test_13_a_frame_and_its_position_are_one_object_however_far_one_stream_leads():
    """700 frames of lead were seen; it is bounded, and told."""
    pairing = Pairing(max_frames=1000)
    for index in range(700):
        assert pairing.add_frame(Frame("s", index, counts(0)), 0) == []
    assert pairing.counts().lead_frames == 0  # no sample yet: nothing to compare with
    rows = np.arange(14.0).reshape(7, 2)
    done = pairing.add_samples(Samples("s", 0, 1, rows))
    assert pairing.counts().lead_frames == 699 - 6
    assert [(e.frame.index, e.mean_m) for e in done] == [
        (i, (2.0 * i, 2.0 * i + 1)) for i in range(7)
    ]
    for index in range(700, 1100):
        pairing.add_frame(Frame("s", index, counts(0)), 0)
    join = pairing.counts()
    assert (join.frames_waiting, join.frames_lost["overflow"]) == (1000, 93)
