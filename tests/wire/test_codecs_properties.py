"""Some rows of an image are those of the whole, or refused for the same reason."""

import struct

import hypothesis.extra.numpy as hnp
import lz4.block
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptystream.errors import DecodeError
from ptystream.wire import codecs

sides = st.integers(1, 90)
images = st.tuples(st.sampled_from(list(codecs.DTYPES)), sides, sides).flatmap(
    lambda of: hnp.arrays(of[0], of[1:], elements=st.integers(0, 200), fill=st.just(3))
)
encodings = st.sampled_from(codecs.ENCODINGS)


@given(images, encodings, st.data())
def test_rows_are_those_of_the_whole(counts, encoding, data):
    height = len(counts)
    first = data.draw(st.integers(0, height))
    stop = data.draw(st.integers(first, height))
    payload = codecs.encode(counts, encoding)
    rows = codecs.decode_rows(
        payload, encoding, counts.shape, counts.dtype, first, stop
    )
    np.testing.assert_array_equal(rows, counts[first:stop])


@pytest.mark.parametrize("encoding", codecs.ENCODINGS)
@pytest.mark.parametrize("dtype", codecs.DTYPES)
@pytest.mark.parametrize("shape", [(9, 10), (9, 12), (8, 11), (10, 11), (1, 1)])
def test_rows_of_a_payload_of_another_size_are_refused(dtype, encoding, shape):
    payload = codecs.encode(np.ones((9, 11), dtype), encoding)
    with pytest.raises(DecodeError):
        codecs.decode_rows(payload, encoding, shape, np.dtype(dtype), 0, 1)


@pytest.mark.parametrize("rows", [(-1, 2), (2, 1), (0, 10), (9, 10)])
def test_rows_beyond_the_image_are_refused(rows):
    counts = np.ones((9, 11), "<u2")
    payload = codecs.encode(counts, "raw")
    with pytest.raises(DecodeError, match="rows"):
        codecs.decode_rows(payload, "raw", counts.shape, counts.dtype, *rows)


def framed(counts: np.ndarray, block: int) -> bytes:
    """Return HDF5's framing of LZ4: what doesn't get smaller is stored as it is."""
    raw = counts.tobytes()
    parts = [struct.pack(">QI", len(raw), block)]
    for at in range(0, len(raw), block):
        piece = raw[at : at + block]
        packed = lz4.block.compress(piece, store_size=False)
        packed = packed if len(packed) < len(piece) else piece
        parts += [len(packed).to_bytes(4, "big"), packed]
    return b"".join(parts)


@pytest.mark.parametrize("block", [16, 100, 4096, 1 << 20])
@pytest.mark.parametrize("noisy", [False, True])
def test_lz4_in_blocks_comes_back_and_no_byte_may_lack(block, noisy):
    rng = np.random.default_rng(3)
    counts = rng.integers(0, 65536 if noisy else 2, (40, 41)).astype("<u2")
    payload, out = framed(counts, block), np.empty_like(counts)
    codecs.decode_into(payload, "lz4-framed", out)
    np.testing.assert_array_equal(out, counts)
    for bad in (payload[:-1], payload + b"\0", payload[:11], payload[:13]):
        with pytest.raises(DecodeError):
            codecs.decode_into(bad, "lz4-framed", out)


def test_lz4_in_blocks_of_nothing_is_refused():
    payload = struct.pack(">QI", 8, 0) + bytes(8)
    with pytest.raises(DecodeError, match="header"):
        codecs.decode_into(payload, "lz4-framed", np.empty((2, 2), "<u2"))


@pytest.mark.parametrize("block", [1 << 24, (1 << 24) + 16])
def test_bslz4_blocks_have_16_mib_at_most(block):
    """An image smaller than its block is one block, whatever the block's size."""
    counts = np.ones((8, 11), "<u2")
    payload = bytes(codecs.encode(counts, "bslz4"))
    payload = payload[:8] + block.to_bytes(4, "big") + payload[12:]
    out = np.empty_like(counts)
    if block == 1 << 24:
        codecs.decode_into(payload, "bslz4", out)
        np.testing.assert_array_equal(out, counts)
        return
    with pytest.raises(DecodeError, match="blocks of 16777232 bytes"):
        codecs.decode_into(payload, "bslz4", out)
