import struct

import bitshuffle
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptystream.errors import DecodeError
from ptystream.wire import bslz4

SHAPES = [(65, 67), (200, 103), (1, 3), (64, 64), (300, 256)]


def photons(shape=(65, 67), dtype="<u2") -> np.ndarray:
    return np.random.default_rng(0).poisson(0.6, shape).astype(dtype)


def payload_of(counts: np.ndarray, block_bytes: int = 8192) -> bytes:
    """As a detector would make it, of blocks of any size."""
    blocks = bitshuffle.compress_lz4(counts.ravel(), block_bytes // counts.itemsize)
    return struct.pack(">QI", counts.nbytes, block_bytes) + blocks.tobytes()


def unpackers() -> list:
    found = [pytest.param(bslz4._with_bitshuffle(), id="bitshuffle")]
    try:
        from dectris.compression import decompress  # pyright: ignore
    except ImportError:
        skip = pytest.mark.skip(reason="dectris-compression isn't installed")
        return [*found, pytest.param(None, id="dectris", marks=skip)]
    return [*found, pytest.param(bslz4._with_dectris(decompress), id="dectris")]


@pytest.fixture(params=unpackers())
def unpack(request, monkeypatch):
    monkeypatch.setattr(bslz4, "_unpack", request.param)


@pytest.mark.usefixtures("unpack")
@pytest.mark.parametrize("dtype", ["|u1", "<u2", "<u4"])
@pytest.mark.parametrize("shape", SHAPES)
def test_what_was_compressed_comes_back(shape, dtype):
    counts = photons(shape, dtype)
    out = np.empty_like(counts)
    bslz4.decompress_into(memoryview(bslz4.compress(counts.ravel())), out)
    np.testing.assert_array_equal(out, counts)


@pytest.mark.usefixtures("unpack")
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("block_bytes", [256, 1024, 8192])
def test_rows_are_those_of_the_whole(shape, block_bytes):
    counts = photons(shape)
    view = memoryview(payload_of(counts, block_bytes))
    edges = sorted({0, 1, shape[0] // 3, shape[0] // 2, shape[0] - 1, shape[0]})
    for first in edges:
        for stop in (e for e in edges if e > first):
            rows = bslz4.decompress_rows(view, shape, counts.dtype, first, stop)
            np.testing.assert_array_equal(rows, counts[first:stop])


@pytest.mark.usefixtures("unpack")
def test_a_corrupt_block_is_refused():
    counts = photons((64, 64))
    payload = bslz4.compress(counts.ravel())
    spoilt = payload[:16] + bytes([255]) * 40 + payload[56:]
    with pytest.raises(DecodeError, match="corrupt"):
        bslz4.decompress_into(memoryview(spoilt), counts)
    with pytest.raises(DecodeError, match="corrupt"):
        bslz4.decompress_rows(memoryview(spoilt), (64, 64), counts.dtype, 0, 8)


@given(st.binary(max_size=200), st.integers(0, 300))
def test_arbitrary_bytes_are_refused(rubbish, cut):
    good = payload_of(photons((16, 16)))
    for payload in (rubbish, struct.pack(">QI", 512, 8192) + rubbish, good[:cut]):
        if payload == good:
            continue
        with pytest.raises(DecodeError):
            bslz4.decompress_rows(memoryview(payload), (16, 16), np.dtype("<u2"), 2, 4)


def test_a_header_is_given_to_blocks_without_one():
    counts = photons()
    good = bslz4.compress(counts.ravel())
    assert bslz4.with_header(good, counts.nbytes) is good
    assert bslz4.with_header(good[12:], counts.nbytes) == good
    assert bslz4.with_header(bytes(12) + good[12:], counts.nbytes) == good


def test_the_number_of_openmp_threads_is_left_as_it_was():
    openmp = bslz4._OPENMP
    if openmp is None:
        pytest.skip("this bitshuffle has no OpenMP")
    before = openmp.omp_get_max_threads()
    openmp.omp_set_num_threads(3)
    try:
        with bslz4._one_thread():
            assert openmp.omp_get_max_threads() == 1
        out = photons()
        bslz4._with_bitshuffle()(memoryview(payload_of(out)), 4096, out)
        assert openmp.omp_get_max_threads() == 3
    finally:
        openmp.omp_set_num_threads(before)
