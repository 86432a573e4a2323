import dataclasses
from typing import Any

import hypothesis.extra.numpy as hnp
import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptystream.errors import DecodeError
from ptystream.wire import codecs, native
from ptystream.wire.envelope import EncodedFrame, Limits, UnknownKind, encode_frame
from ptystream.wire.headers import MAX_INDEX
from ptystream.wire.messages import (
    Frame,
    Geometry,
    Heartbeat,
    Samples,
    ScanEnd,
    ScanStart,
)

uids = st.text(min_size=1, max_size=40)
streams = st.sampled_from(["det", "pos"])
indices = st.integers(0, MAX_INDEX - 1)
lengths = st.floats(1e-12, 1e3)
finite = st.floats(allow_nan=False, allow_infinity=False)
json_like = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | finite | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
geometries = st.builds(
    Geometry,
    wavelength_m=lengths,
    distance_m=lengths,
    detector_pixel_m=st.tuples(lengths, lengths),
    origins=st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=3),
)
starts = st.builds(
    ScanStart,
    scan=uids,
    stream=streams,
    shape=st.none() | st.tuples(st.integers(1, 4096), st.integers(1, 4096)),
    dtype=st.none() | st.sampled_from(list(codecs.DTYPES)),
    frames_expected=st.none() | indices,
    geometry=st.none() | geometries,
    dwell_s=st.none() | st.floats(0, 1e6),
    again=st.booleans(),
    meta=st.dictionaries(st.text(max_size=8), json_like, max_size=4),
)
ends = st.builds(
    ScanEnd,
    scan=uids,
    stream=streams,
    reason=st.sampled_from(["complete", "aborted", "timed out", "overrun", "error"]),
    sent=st.none() | indices,
)
beats = st.builds(Heartbeat, scan=st.text(max_size=40), stream=streams)
frames = st.builds(
    Frame,
    scan=uids,
    index=indices,
    counts=st.sampled_from(list(codecs.DTYPES)).flatmap(
        lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=2, max_dims=2))
    ),
    start_ns=st.integers(0, 2**61),
    stop_ns=st.integers(0, 2**61),
)
samples = st.builds(
    Samples,
    scan=uids,
    first=indices,
    per_frame=st.integers(1, 100),
    position_m=hnp.arrays(
        "<f8", st.tuples(st.integers(1, 9), st.just(2)), elements=finite
    ),
)
START = ScanStart("s1", "det", (4, 5), "<u2", 9, Geometry(1e-10, 1, (75e-6, 75e-6)))
FRAME = Frame("s1", 3, np.arange(20, dtype="<u2").reshape(4, 5), 10, 20)
SAMPLES = Samples("s1", 30, 10, np.arange(40.0).reshape(20, 2))
MESSAGES = [START, FRAME, SAMPLES, ScanEnd("s1", "pos", "complete", 40)]


def wire(message: Any, **changes: Any) -> list[bytes]:
    """The parts of a message, its header's keys changed."""
    parts = [bytes(p) for p in native.encode(message, seq=1, sent_ns=2)]
    header = msgspec.msgpack.decode(parts[1]) | changes
    return [parts[0], msgspec.msgpack.encode(header), *parts[2:]]


def assert_same(a: Any, b: Any) -> None:
    assert type(a) is type(b)
    for field in dataclasses.fields(a):
        np.testing.assert_equal(getattr(a, field.name), getattr(b, field.name))


@given(
    starts | ends | beats | frames | samples,
    st.sampled_from(codecs.ENCODINGS),
    st.integers(0, 2**61),
)
def test_a_message_comes_back(message, encoding, seq):
    parts = native.encode(message, seq=seq, sent_ns=7, encoding=encoding)
    envelope = native.decode([bytes(p) for p in parts])
    assert (envelope.seq, envelope.sent_ns, envelope.run) == (seq, 7, message.scan)
    assert f"ptys1/{envelope.stream}/".encode() in bytes(parts[0])
    got = envelope.message
    if isinstance(got, EncodedFrame):
        assert got.nbytes == message.counts.nbytes
        got = got.decode()
    assert_same(got, message)


@given(frames)
def test_a_frame_may_be_encoded_ahead(frame):
    ahead = native.encode(encode_frame(frame, "bslz4"), seq=1, sent_ns=2)
    now = native.encode(frame, seq=1, sent_ns=2, encoding="bslz4")
    assert [bytes(p) for p in ahead] == [bytes(p) for p in now]


@given(st.lists(st.binary(max_size=60), max_size=5))
def test_any_bytes_raise_decode_error(parts):
    with pytest.raises(DecodeError):
        native.decode(parts)


@given(
    st.sampled_from(["det/frame", "pos/pos", "det/start", "pos/end", "det/hb", "a/b"]),
    st.binary(max_size=60)
    | st.dictionaries(
        st.sampled_from([*"vksrqtf", "bufs", "i0", "per", "meta", "geo"]),
        json_like,
    ).map(msgspec.msgpack.encode),
    st.lists(st.binary(max_size=20), max_size=3),
)
def test_any_header_raises_decode_error_at_most(topic, header, buffers):
    with pytest.raises(DecodeError):
        native.decode([b"ptys1/" + topic.encode(), header, *buffers])


@given(
    st.sampled_from(MESSAGES),
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1),
    st.integers(0, 3),
)
def test_a_mutated_message_raises_decode_error_at_most(message, edits, part):
    parts = wire(message)
    broken = bytearray(parts[part % len(parts)])
    for at, value in edits:
        broken[at % len(broken)] = value
    parts[part % len(parts)] = bytes(broken)
    try:
        envelope = native.decode(parts)
    except DecodeError:
        return
    if isinstance(envelope.message, EncodedFrame):
        assert envelope.message.decode().counts.size > 0


@pytest.mark.parametrize("message", MESSAGES)
def test_unknown_keys_are_ignored(message):
    got = native.decode(wire(message, zebra=[1, {"a": 2}])).message
    assert_same(got.decode() if isinstance(got, EncodedFrame) else got, message)


def test_an_unknown_kind_is_told_apart_and_keeps_its_number():
    parts = wire(FRAME, k="spectrum")
    envelope = native.decode([b"ptys1/det/spectrum", *parts[1:]])
    assert envelope.message == UnknownKind("spectrum")
    assert envelope.seq == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"v": 2},
        {"k": "start"},
        {"s": "pos"},
        {"f": -1},
        {"f": MAX_INDEX},
        {"f": 1.5},
        {"f": None},
        {"q": -1},
        {"r": "x" * 300},
        {"bufs": []},
        {"bufs": [{"dt": "<u2", "sh": [4, 5], "enc": "raw", "n": 41}]},
        {"bufs": [{"dt": "<f4", "sh": [4, 5], "enc": "raw", "n": 40}]},
        {"bufs": [{"dt": "|O", "sh": [4, 5], "enc": "raw", "n": 40}]},
        {"bufs": [{"dt": "<u2", "sh": [4, 5], "enc": "pickle", "n": 40}]},
        {"bufs": [{"dt": "<u2", "sh": [20], "enc": "raw", "n": 40}]},
        {"bufs": [{"dt": "<u2", "sh": [0, 5], "enc": "raw", "n": 40}]},
        {"bufs": [{"dt": "<u2", "sh": [2**40, 2**40], "enc": "raw", "n": 40}]},
        {"bufs": [{"dt": "<u4", "sh": [2**19, 2**19], "enc": "lz4", "n": 40}]},
    ],
)
def test_a_false_frame_header_is_refused(changes):
    with pytest.raises(DecodeError):
        native.decode(wire(FRAME, **changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"i0": -1},
        {"i0": MAX_INDEX},
        {"per": 0},
        {"per": 2**20},
        {"bufs": [{"nm": "y", "dt": "<f8", "sh": [20], "enc": "raw", "n": 160}] * 2},
    ],
)
def test_a_false_positions_header_is_refused(changes):
    with pytest.raises(DecodeError):
        native.decode(wire(SAMPLES, **changes))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_positions_that_are_not_finite_are_refused(bad):
    rows = SAMPLES.position_m.copy()
    rows[3, 1] = bad
    with pytest.raises(ValueError, match="finite"):
        native.encode(Samples("s", 0, 1, rows), seq=0, sent_ns=0)
    parts = wire(SAMPLES)
    column = np.frombuffer(parts[3], "<f8").copy()
    column[3] = bad
    with pytest.raises(DecodeError, match="finite"):
        native.decode([*parts[:3], column.tobytes()])


@pytest.mark.parametrize(
    "changes",
    [
        {"r": ""},
        {"sh": [4]},
        {"sh": [4, 2**20]},
        {"dt": "<f8"},
        {"dwell": float("nan")},
        {"dwell": float("inf")},
        {"geo": {"wavelength_m": 0.0, "distance_m": 1.0, "pixel_m": [1.0, 1.0]}},
        {"geo": {"wavelength_m": 1.0, "distance_m": 1.0, "pixel_m": [1.0, "1"]}},
        {"meta": {"a": b"bytes"}},
        {"meta": {"a": {1: 2}}},
        {"meta": {"a": msgspec.msgpack.Ext(5, b"x")}},
        {"meta": [1]},
    ],
)
def test_a_false_start_is_refused(changes):
    with pytest.raises(DecodeError):
        native.decode(wire(START, **changes))


def test_deeply_nested_metadata_is_refused():
    header = wire(START)[1]
    deep = b"\x81\xa1a" * 5000 + b"\xc0"
    bomb = header.replace(b"\xa4meta\x80", b"\xa4meta" + deep)
    with pytest.raises(DecodeError):
        native.decode([b"ptys1/det/start", bomb])


@pytest.mark.parametrize("wrap", [lambda v: [v], lambda v: {"b": v}])
def test_metadata_may_be_sixteen_deep(wrap):
    value = 1
    for _ in range(15):
        value = wrap(value)
    assert native.decode(wire(START, meta={"a": value})).message.meta == {"a": value}
    with pytest.raises(DecodeError, match="deeper than 16"):
        native.decode(wire(START, meta={"a": wrap(value)}))


def test_limits_are_kept():
    with pytest.raises(DecodeError, match="40 bytes"):
        native.decode(wire(FRAME), limits=Limits(max_frame_bytes=39))
    with pytest.raises(DecodeError, match="samples"):
        native.decode(wire(SAMPLES), limits=Limits(max_samples=19))
    with pytest.raises(DecodeError, match="header of"):
        native.decode([b"ptys1/det/start", bytes(native.MAX_HEADER_BYTES + 1)])
    with pytest.raises(ValueError, match="header of"):
        native.encode(ScanStart("s", "det", meta={"a": "x" * 70000}), seq=0, sent_ns=0)


@pytest.mark.parametrize(
    "message",
    [
        dataclasses.replace(FRAME, index=-1),
        dataclasses.replace(FRAME, index=MAX_INDEX),
        dataclasses.replace(FRAME, counts=np.ones((2, 2, 2), "<u2")),
        dataclasses.replace(FRAME, counts=np.ones((2, 2), "<f4")),
        dataclasses.replace(SAMPLES, position_m=np.ones((3, 3))),
        dataclasses.replace(START, meta={"a": b"x"}),
        dataclasses.replace(START, scan=""),
        "a text",
    ],
)
def test_the_encoder_refuses_what_the_decoder_would(message):
    with pytest.raises(ValueError):  # noqa: PT011
        native.encode(message, seq=0, sent_ns=0)


def test_pixels_are_not_copied_on_the_way_out():
    parts = native.encode(FRAME, seq=0, sent_ns=0)
    assert np.shares_memory(np.frombuffer(parts[2], "<u2"), FRAME.counts)


def test_a_frame_header_is_small():
    """Less than a hundred bytes beside a payload of 16 kB."""
    frame = dataclasses.replace(FRAME, scan="0" * 26, index=10**5)
    assert len(native.encode(frame, seq=10**5, sent_ns=2**60)[1]) < 130
