from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptystream.errors import DecodeError
from ptystream.wire.envelope import EncodedFrame, Limits
from ptystream.wire.karabo import KaraboDecoder, encode_train
from ptystream.wire.messages import ScanEnd, ScanStart

SOURCE = "SPB_DET/DET/0CH0:xtdf"
TRAIN = 10_000_000_000


def images(pulses: int, train: int = TRAIN) -> np.ndarray:
    at = np.arange(pulses * 6).reshape(pulses, 2, 3)
    return (at + train % 1000).astype("<u2")


def decoded(decoder: KaraboDecoder, *trains: int, pulses: int = 2) -> list[Any]:
    parts = [encode_train(t, SOURCE, images(pulses, t)) for t in trains]
    return [e.message for p in parts for e in decoder.decode(p)]


def test_a_train_is_as_many_frames_as_it_has_pulses():
    start, *frames = decoded(KaraboDecoder(Limits()), TRAIN, TRAIN + 1)
    assert isinstance(start, ScanStart)
    assert (start.shape, start.dtype, start.again) == ((2, 3), "<u2", False)
    assert [f.index for f in frames] == [0, 1, 2, 3]
    for k, f in enumerate(frames):
        expected = images(2, TRAIN + k // 2)[k % 2]
        np.testing.assert_array_equal(f.decode().counts, expected)


def test_a_train_left_out_shifts_nothing_and_is_seen_by_its_number():
    decoder = KaraboDecoder(Limits())
    decoded(decoder, TRAIN)
    envelopes = decoder.decode(encode_train(TRAIN + 3, SOURCE, images(2)))
    frames = [e.message for e in envelopes if isinstance(e.message, EncodedFrame)]
    assert [f.index for f in frames] == [6, 7]
    assert envelopes[-1].seq == 3


def test_a_train_number_that_goes_back_is_another_scan():
    *_, end, start, frame = decoded(KaraboDecoder(Limits()), 7, 8, 5, pulses=1)
    assert end == ScanEnd("karabo-7-1", "det", "complete", 2)
    assert (start.scan, frame.index) == ("karabo-5-2", 0)


def pair(content: str, payload: Any, **fields: Any) -> list[bytes]:
    head = {"source": SOURCE, "content": content, **fields}
    return [msgspec.msgpack.encode(head), payload]


def begin(number: Any = TRAIN) -> list[bytes]:
    return pair("msgpack", b"\x80", metadata={"timestamp.tid": number})


def array(pixels: np.ndarray, path: str = "image.data", **fields: Any) -> list[bytes]:
    told = {"path": path, "dtype": str(pixels.dtype), "shape": pixels.shape}
    return pair("array", pixels.tobytes(), **{**told, **fields})


CELLS = array(np.arange(4, dtype="<u2"), "image.cellId")
STACK = images(4)


@pytest.mark.parametrize(
    "parts",
    [
        array(STACK) + CELLS,
        array(np.ascontiguousarray(STACK.T)) + CELLS,
        CELLS + array(STACK) + array(STACK, "image.gain"),
    ],
    ids=["as in files", "as online", "the first of two"],
)
def test_pulses_are_found_where_they_are(parts):
    _, *envelopes = KaraboDecoder(Limits()).decode(begin() + parts)
    got = [e.message.decode().counts for e in envelopes]  # type: ignore[union-attr]
    np.testing.assert_array_equal(got, STACK)


def test_one_image_a_train():
    _, got = KaraboDecoder(Limits()).decode(begin() + array(STACK[0]))
    assert isinstance(got.message, EncodedFrame)
    np.testing.assert_array_equal(got.message.decode().counts, STACK[0])


def test_the_source_that_is_asked_for():
    parts = encode_train(7, "OTHER", images(3)) + encode_train(7, SOURCE, images(2))
    start, *frames = KaraboDecoder(Limits(channel=SOURCE)).decode(parts)
    assert isinstance(start.message, ScanStart)
    assert start.message.meta["source"] == SOURCE
    assert len(frames) == 2


BAD = {
    "nothing": [],
    "protocol 1": [b"\x80"],
    "no msgpack": [b"\xc1", b""],
    "another content": pair("pickle", b""),
    "no number": pair("msgpack", b"\x80", metadata={}) + array(STACK[0]),
    "a number that is none": begin("seven") + array(STACK[0]),
    "a number that is a truth": begin(True) + array(STACK[0]),
    "a number without bound": begin(1 << 50) + array(STACK[0]),
    "two numbers": begin(1) + begin(2) + array(STACK[0]),
    "no image": begin() + CELLS,
    "floats": begin() + array(STACK[0].astype("<f4")),
    "a size that lies": begin() + array(STACK[0], shape=[2, 4]),
    "no pixels": begin() + array(STACK[0], shape=[0, 3]),
    "pulses nowhere": begin() + array(STACK[:3]) + CELLS,
    "four axes": begin() + array(STACK[np.newaxis]),
    "too large": begin() + array(np.zeros((600, 600), "<u2")),
    "a header too large": begin() + array(STACK[0], path="x" * 70_000),
    "deep": [b"\x91" * 5000, b""],
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_train_is_an_error_and_opens_no_scan(name):
    decoder = KaraboDecoder(Limits(max_frame_bytes=100_000))
    with pytest.raises(DecodeError):
        decoder.decode(BAD[name])
    assert isinstance(decoded(decoder, 1)[0], ScanStart)


@given(st.lists(st.binary(max_size=40), max_size=6))
def test_any_parts_raise_decode_errors_only(parts):
    try:
        KaraboDecoder(Limits()).decode(begin() + parts)
    except DecodeError:
        pass
