import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptystream.errors import DecodeError
from ptystream.wire import codecs
from ptystream.wire.areadetector import ArrayDecoder, encode_array
from ptystream.wire.codecs import Encoding
from ptystream.wire.envelope import EncodedFrame, Limits, encode_frame
from ptystream.wire.messages import Frame, ScanEnd, ScanStart

SHAPE = 33, 47  # with a tail that bitshuffle leaves as it is
COUNTS = np.random.default_rng(1).poisson(3, SHAPE)


def frame(index: int = 0, dtype: str = "<u2", time_ns: int = 0) -> Frame:
    return Frame("", index, (COUNTS + index).astype(dtype), time_ns, time_ns)


def header(**fields: Any) -> bytes:
    told = {"htype": "array-1.0", "shape": SHAPE, "type": "uint16", "frame": 0}
    return json.dumps({**told, **fields}).encode()


RAW = COUNTS.astype("<u2").tobytes()


def one(parts: Any, limits: Limits | None = None) -> np.ndarray:
    """The pixels of an array that is the first of its scan."""
    *_, envelope = ArrayDecoder(limits or Limits()).decode(parts)
    assert isinstance(envelope.message, EncodedFrame)
    return envelope.message.decode().counts


@pytest.mark.parametrize("dtype", ["|u1", "<u2", "<u4"])
@pytest.mark.parametrize("encoding", codecs.ENCODINGS)
@pytest.mark.parametrize("block_header", [False, True])
def test_pixels_come_back_bit_by_bit(
    dtype: str, encoding: Encoding, block_header: bool
):
    sent = frame(5, dtype, 1_700_000_000_123_456_768)
    parts = encode_array(encode_frame(sent, encoding), block_header=block_header)
    start, got = ArrayDecoder(Limits()).decode(parts)
    assert isinstance(start.message, ScanStart)
    assert (start.message.shape, start.message.dtype) == (SHAPE, dtype)
    assert isinstance(got.message, EncodedFrame)
    assert got.message.index == 5
    assert abs(got.message.start_ns - sent.start_ns) < 1000
    np.testing.assert_array_equal(got.message.decode().counts, sent.counts)


@pytest.mark.parametrize("dtype", ["|u1", "<u2", "<u4"])
def test_bslz4_blocks_with_the_plugins_own_garbage_behind_them(dtype):
    """ADZMQ sends as many bytes as the array has without compression."""
    sent = np.zeros(SHAPE, dtype)
    meta, blocks = encode_array(encode_frame(Frame("", 0, sent), "bslz4"))
    padded = bytes(blocks).ljust(sent.nbytes, b"\xaa")
    np.testing.assert_array_equal(one([meta, padded]), sent)


@pytest.mark.parametrize(
    "fields",
    [
        {"timeStamp": 1234.5, "encoding": "", "ndattr": {"NumImages": 1}},
        {"tags": [], "source": "", "endianess": "little"},
        {"endianness": "little", "compression": "none"},
        {"shape": [1, *SHAPE]},
        {"shape": [1, 1, *SHAPE], "encoding": None},
    ],
)
def test_every_spelling_is_read(fields):
    np.testing.assert_array_equal(one([header(**fields), RAW]), COUNTS)


@pytest.mark.parametrize("key", ["endianness", "endianess"])
@pytest.mark.parametrize("encoding", codecs.ENCODINGS)
def test_big_endian_pixels_are_turned(key, encoding):
    swapped = COUNTS.astype("<u2").byteswap()
    payload = codecs.encode(swapped, encoding)
    got = one([header(**{key: "big", "encoding": encoding}), payload])
    np.testing.assert_array_equal(got, COUNTS)


def test_flags_below_zero_become_the_largest_counts():
    pixels = np.array([[-1, -2, 7]], "<i4")
    got = one([header(shape=[1, 3], type="int32"), pixels.tobytes()])
    assert got.tolist() == [[2**32 - 1, 2**32 - 2, 7]]


def decoded(arrays: list[Any]) -> list[Any]:
    decoder = ArrayDecoder(Limits())
    return [e.message for parts in arrays for e in decoder.decode(parts)]


def kinds(messages: list[Any]) -> list[Any]:
    return [m.index if isinstance(m, EncodedFrame) else type(m) for m in messages]


def array(index: int, **fields: Any) -> list[bytes]:
    return [header(frame=index, **fields), RAW]


def test_a_scan_ends_at_the_number_of_images():
    told = {"ndattr": {"NumImages": 3}}
    got = decoded([array(k, **told) for k in (0, 1, 2, 0)])
    assert kinds(got) == [ScanStart, 0, 1, 2, ScanEnd, ScanStart, 0]
    start, *_, end, second, _ = got
    assert (start.scan, start.frames_expected, start.again) == ("array-1", 3, False)
    assert end == ScanEnd("array-1", "det", "complete", 3)
    assert second.scan == "array-2"


def test_a_number_of_images_that_is_none_ends_nothing():
    got = decoded([array(k, ndattr={"NumImages": 1}) for k in (122, 123, 124)])
    assert kinds(got) == [ScanStart, 122, 123, 124]
    got = decoded([array(k, ndattr={"NumImages": 100}) for k in (122, 123)])
    assert kinds(got) == [ScanStart, 122, 123]
    assert got[0].frames_expected is None


def test_a_number_that_begins_again_is_another_scan():
    got = decoded([array(k, source="eiger") for k in (0, 1, 2, 0, 1)])
    assert kinds(got) == [ScanStart, 0, 1, 2, ScanEnd, ScanStart, 0, 1]
    assert [m.scan for m in got] == ["eiger-1"] * 5 + ["eiger-2"] * 3
    assert got[4].sent == 3


def test_arrays_that_overtake_each_other_are_one_scan():
    order = [0, 2, 1, 5, 3, 4]
    got = decoded([array(k, timeStamp=100.0 + k) for k in order])
    assert kinds(got) == [ScanStart, *order]


def test_with_time_stamps_even_one_image_can_be_a_scan():
    got = decoded([array(0, timeStamp=100.0), array(0, timeStamp=105.0)])
    assert kinds(got) == [ScanStart, 0, ScanEnd, ScanStart, 0]


def test_the_same_array_twice_is_no_other_scan():
    assert kinds(decoded([array(0), array(1), array(1)])) == [ScanStart, 0, 1, 1]


def test_who_comes_in_the_middle_is_told():
    start, _ = decoded([array(7)])
    assert start.again


def test_an_attribute_names_the_scan():
    got = decoded(
        [array(k, ndattr={"ScanUID": uid}) for k, uid in [(0, "a"), (1, "b")]]
    )
    assert kinds(got) == [ScanStart, 0, ScanEnd, ScanStart, 1]
    assert [m.scan for m in got] == ["a", "a", "a", "b", "b"]


def test_a_counter_may_begin_with_another_number():
    decoder = ArrayDecoder(Limits(first_frame=1))
    told = {"ndattr": {"NumImages": 2}}
    with pytest.raises(DecodeError, match=r"array 0.*first_frame 1"):
        decoder.decode(array(0, **told))
    got = [e.message for k in (1, 2, 1) for e in decoder.decode(array(k, **told))]
    assert kinds(got) == [ScanStart, 0, 1, ScanEnd, ScanStart, 0]
    assert [m.again for m in got if isinstance(m, ScanStart)] == [False, False]


BAD = {
    "one part": [header()],
    "no JSON": [b"{", RAW],
    "another htype": [header(htype="chunk-1.0"), RAW],
    "no frame": [header(frame=None), RAW],
    "a frame below 0": [header(frame=-1), RAW],
    "a frame without bound": [header(frame=1 << 50), RAW],
    "floats": [header(type="float32"), RAW * 2],
    "an encoding we have not": [header(encoding="blosc"), RAW],
    "several images": [header(shape=[2, *SHAPE]), RAW * 2],
    "one axis": [header(shape=[5]), RAW],
    "no pixels": [header(shape=[0, 5]), b""],
    "a size that lies": [header(shape=[33, 48]), RAW],
    "neither end": [header(endianness="middle"), RAW],
    "a header too large": [header(tags="x" * 70_000), RAW],
    "too large": [header(shape=[4096, 4096]), RAW],
    "deep": [b'{"ndattr":{"a":' + b"[" * 5000, RAW],
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_array_is_an_error_and_opens_no_scan(name):
    decoder = ArrayDecoder(Limits(max_frame_bytes=1 << 20))
    with pytest.raises(DecodeError):
        decoder.decode(BAD[name])
    start, _ = decoder.decode(array(0))
    assert isinstance(start.message, ScanStart)


@given(payload=st.binary(max_size=400), encoding=st.sampled_from(["lz4", "bslz4"]))
def test_any_payload_raises_decode_errors_only(payload, encoding):
    for size in payload, payload.ljust(len(RAW), b"\0"):
        try:
            one([header(encoding=encoding), size])
        except DecodeError:
            pass


@given(
    st.dictionaries(
        st.sampled_from(
            ["shape", "type", "frame", "timeStamp", "encoding", "ndattr", "endianness"]
        ),
        st.none()
        | st.integers()
        | st.floats()
        | st.text(max_size=3)
        | st.lists(st.integers(0, 3)),
    )
)
def test_any_header_raises_decode_errors_only(fields):
    try:
        ArrayDecoder(Limits()).decode([header(**fields), RAW])
    except DecodeError:
        pass
