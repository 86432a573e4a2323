import math
import struct

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptystream.errors import DecodeError
from ptystream.wire import cbor

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=5) | st.integers(0, 99), inner, max_size=4)
    ),
    max_leaves=20,
)


def plain(value):
    """Views as bytes, tuples and frozen maps as lists and dicts."""
    if isinstance(value, memoryview):
        return bytes(value)
    if hasattr(value, "items"):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple) and not isinstance(value, cbor.Tag):
        return [plain(v) for v in value]
    return value


@given(values)
def test_it_agrees_with_cbor2_both_ways(value):
    assert plain(cbor.decode(cbor2.dumps(value))) == value
    assert plain(cbor2.loads(cbor.encode(value))) == value


@given(st.binary(max_size=80))
def test_arbitrary_bytes_raise_decode_error_only(data):
    try:
        cbor.decode(data)
    except DecodeError:
        return


@given(values, st.data())
def test_a_message_cut_short_is_refused(value, data):
    message = cbor.encode([value])
    cut = data.draw(st.integers(0, len(message) - 1))
    with pytest.raises(DecodeError):
        cbor.decode(message[:cut])


def test_byte_strings_are_views_and_tags_are_kept():
    message = cbor.encode(cbor.Tag(40, [[1, 2], b"abc"]))
    tag = cbor.decode(message)
    assert (tag.number, tag.value[0]) == (40, [1, 2])
    assert tag.value[1].obj is message


@pytest.mark.parametrize(
    ("form", "code", "value"),
    [(">e", 0xF9, 1.5), (">f", 0xFA, -2.25), (">d", 0xFB, math.pi)],
)
def test_floats_of_every_width(form, code, value):
    assert cbor.decode(bytes([code]) + struct.pack(form, value)) == value


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\x00\x00",  # two items
        b"\x9f\xff",  # indefinite
        b"\x5f\x41a\xff",
        b"\xf8\x20",  # a simple value of no meaning
        b"\xa1\x80\x00",  # a key that is an array
        b"\x9b" + b"\xff" * 8,  # 2^64 items
        b"\xbb" + b"\xff" * 8,
        b"\x5b" + b"\xff" * 8 + b"a",
        b"\x62\xff\xff",  # not UTF-8
        b"\x81" * 1000 + b"\x00",
        b"\xd8\x28" * 40 + b"\x00",
        b"\x9a\x00\x02\x00\x00" + b"\x00" * 0x20000,  # 131 072 items
    ],
)
def test_what_no_detector_sends_is_refused(message):
    with pytest.raises(DecodeError, match="CBOR"):
        cbor.decode(message)


def test_the_encoder_says_what_it_cannot():
    with pytest.raises(TypeError, match="object"):
        cbor.encode(object())
    with pytest.raises(OverflowError, match="64 bits"):
        cbor.encode(1 << 64)
