"""Whatever fits in CBOR comes back; depth and number have exact bounds."""

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptystream.errors import DecodeError
from ptystream.wire import cbor
from ptystream.wire.cbor import MAX_DEPTH, MAX_ITEMS, Tag

plain = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 64), (1 << 64) - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=30)
    | st.binary(max_size=300)
)
items = st.recursive(
    plain,
    lambda inner: (
        st.lists(inner, max_size=30)
        | st.dictionaries(st.text(max_size=3) | st.integers(0, 99), inner, max_size=30)
        | st.builds(Tag, st.integers(0, (1 << 64) - 1), inner)
    ),
    max_leaves=40,
)
AROUND: dict[str, Callable[[Any], Any]] = {
    "list": lambda item: [item],
    "map": lambda item: {"k": item},
    "tag": lambda item: Tag(40, item),
}


def bare(item: Any) -> Any:
    """Return an item with bytes for views."""
    if isinstance(item, memoryview):
        return bytes(item)
    if isinstance(item, Tag):
        return Tag(item.number, bare(item.value))
    if isinstance(item, dict):
        return {key: bare(value) for key, value in item.items()}
    return [bare(value) for value in item] if isinstance(item, list) else item


@given(items)
def test_what_is_encoded_is_decoded(item):
    assert bare(cbor.decode(cbor.encode(item))) == item


@given(items, st.integers(1, 9))
def test_less_or_more_than_one_item_is_refused(item, cut):
    data = cbor.encode(item)
    with pytest.raises(DecodeError):
        cbor.decode(data[: -min(cut, len(data))])
    with pytest.raises(DecodeError, match="ends at byte"):
        cbor.decode(data + bytes(cut))


@pytest.mark.parametrize("kind", AROUND)
def test_as_deep_as_is_allowed_and_no_deeper(kind: str):
    item: Any = 7
    for _ in range(MAX_DEPTH):
        item = AROUND[kind](item)
    assert cbor.decode(cbor.encode(item)) == item
    with pytest.raises(DecodeError, match="deeper than 16"):
        cbor.decode(cbor.encode(AROUND[kind](item)))


def test_as_many_items_as_are_allowed_and_no_more():
    assert len(cbor.decode(cbor.encode([0] * (MAX_ITEMS - 1)))) == MAX_ITEMS - 1
    with pytest.raises(DecodeError, match="65536 items"):
        cbor.decode(cbor.encode([0] * MAX_ITEMS))


def test_lengths_at_the_messages_end():
    assert cbor.decode(b"\x82\x00\x00") == [0, 0]
    assert cbor.decode(b"\xa1\x00\x00") == {0: 0}
    assert bytes(cbor.decode(b"\x42ab")) == b"ab"
    for short in (b"\x83\x00\x00", b"\xa2\x00\x00\x00", b"\x43ab", b"\x63ab"):
        with pytest.raises(DecodeError):
            cbor.decode(short)


def test_floats_of_every_width():
    assert cbor.decode(b"\xf9\x3c\x00") == 1.0
    assert cbor.decode(b"\xfa\x3f\x80\x00\x00") == 1.0
    assert math.isnan(cbor.decode(b"\xfb\x7f\xf8" + bytes(6)))
