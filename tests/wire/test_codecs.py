import struct

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptystream.errors import DecodeError
from ptystream.wire import codecs

pixels = st.sampled_from(list(codecs.DTYPES)).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=1, max_dims=2))
)
encodings = st.sampled_from(codecs.ENCODINGS)


def photons(dtype: str = "<u2") -> np.ndarray:
    return np.random.default_rng(1).poisson(0.5, (65, 67)).astype(dtype)


@given(pixels, encodings)
def test_pixels_come_back(counts, encoding):
    out = np.empty_like(counts)
    codecs.decode_into(codecs.encode(counts, encoding), encoding, out)
    np.testing.assert_array_equal(out, counts)


@pytest.mark.parametrize("encoding", codecs.ENCODINGS)
@pytest.mark.parametrize("dtype", codecs.DTYPES)
def test_frames_of_several_blocks_come_back(dtype, encoding):
    counts = np.tile(photons(dtype), (3, 2))
    out = np.empty_like(counts)
    codecs.decode_into(codecs.encode(counts, encoding), encoding, out)
    np.testing.assert_array_equal(out, counts)


def test_bslz4_has_the_header_of_hdf5():
    payload = bytes(codecs.encode(photons(), "bslz4"))
    assert struct.unpack_from(">QI", payload) == (65 * 67 * 2, 8192)


def test_bslz4_is_what_the_hdf5_filter_writes(tmp_path):
    import h5py
    import hdf5plugin

    counts = photons()
    compression = hdf5plugin.Bitshuffle(nelems=0, cname="lz4")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        data = file.create_dataset(
            "data", data=counts, chunks=counts.shape, compression=compression
        )
        _, chunk = data.id.read_direct_chunk((0, 0))
    out = np.empty_like(counts)
    codecs.decode_into(chunk, "bslz4", out)
    np.testing.assert_array_equal(out, counts)


@given(
    encodings,
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=6),
    st.integers(0, 400) | st.none(),
)
def test_a_damaged_payload_raises_decode_error_at_most(encoding, edits, cut):
    payload = bytearray(codecs.encode(photons(), encoding))
    for at, value in edits:
        payload[at % len(payload)] = value
    if cut is not None:
        del payload[len(payload) - cut :]
    out = np.empty_like(photons())
    try:
        codecs.decode_into(bytes(payload), encoding, out)
    except DecodeError:
        return
    assert cut in (None, 0)


@given(st.binary(max_size=200), encodings)
def test_any_bytes_raise_decode_error_at_most(payload, encoding):
    out = np.empty((4, 5), "<u2")
    try:
        codecs.decode_into(payload, encoding, out)
    except DecodeError:
        return
    assert payload


@pytest.mark.parametrize("encoding", codecs.ENCODINGS)
def test_every_truncation_is_seen(encoding):
    payload = bytes(codecs.encode(photons(), encoding))
    out = np.empty_like(photons())
    for cut in range(1, len(payload), 37):
        with pytest.raises(DecodeError):
            codecs.decode_into(payload[:-cut], encoding, out)


@pytest.mark.parametrize("total", [0, 65 * 67 * 2 - 1, 65 * 67 * 2 + 1, 1 << 40])
def test_a_lie_about_the_size_is_seen_before_anything_is_decompressed(total):
    payload = bytes(codecs.encode(photons(), "bslz4"))
    lie = struct.pack(">Q", total) + payload[8:]
    with pytest.raises(DecodeError, match="header says"):
        codecs.decode_into(lie, "bslz4", np.empty_like(photons()))


@pytest.mark.parametrize("block", [0, 1, 24, 4095, (1 << 24) + 16, (1 << 32) - 16])
def test_a_senseless_block_size_is_refused(block):
    payload = bytes(codecs.encode(photons(), "bslz4"))
    lie = payload[:8] + struct.pack(">I", block) + payload[12:]
    with pytest.raises(DecodeError):
        codecs.decode_into(lie, "bslz4", np.empty_like(photons()))


@pytest.mark.parametrize("encoding", codecs.ENCODINGS)
def test_a_payload_of_another_size_is_refused(encoding):
    payload = codecs.encode(photons(), encoding)
    for shape in [(65, 66), (65, 68), (1, 1)]:
        with pytest.raises(DecodeError):
            codecs.decode_into(payload, encoding, np.empty(shape, "<u2"))


def test_unknown_names_are_refused():
    with pytest.raises(DecodeError, match="encoding"):
        codecs.decode_into(b"", "zip", np.empty((2, 2), "<u2"))
    with pytest.raises(DecodeError, match="dtype"):
        codecs.check_dtype(">u2")
    with pytest.raises(ValueError, match="float64"):
        codecs.encode(np.ones((2, 2)), "raw")
    with pytest.raises(ValueError, match="encoding"):
        codecs.encode(photons(), "zip")  # pyright: ignore[reportArgumentType]
