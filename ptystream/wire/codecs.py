"""Pixels to payload bytes and back: raw, one LZ4 block, bitshuffle with LZ4.

``bslz4`` is what detectors and HDF5 filter 32008 use: u64 big-endian byte count,
u32 big-endian block bytes, then for each block a u32 big-endian length and an LZ4
block; up to seven last elements follow unshuffled and uncompressed.
"""

import contextlib
import ctypes
import struct
from collections.abc import Iterator
from typing import Any, Literal, cast, get_args

import bitshuffle
import bitshuffle.ext
import lz4.block
import numpy as np

from ptystream.errors import DecodeError

Encoding = Literal["raw", "lz4", "bslz4"]
ENCODINGS: tuple[Encoding, ...] = get_args(Encoding)
Buffer = bytes | memoryview

DTYPES = {name: np.dtype(name) for name in ("|u1", "<u2", "<u4")}
"""The only pixel types on the wire."""

_BSLZ4_HEADER = struct.Struct(">QI")
_BLOCK_LENGTH = struct.Struct(">I")
_BLOCK_BYTES = 8192
_MAX_BLOCK_BYTES = 1 << 24
_SHUFFLED = 8  # bitshuffle works on groups of eight elements


def check_dtype(name: str) -> np.dtype:
    """Return the dtype of a name on the whitelist; raise DecodeError for any other."""
    if name not in DTYPES:
        raise DecodeError(f"dtype {name[:20]!r}, expected one of {list(DTYPES)}")
    return DTYPES[name]


def encode(counts: np.ndarray, encoding: Encoding) -> bytes | memoryview:
    """Return the payload of uint8, uint16 or uint32 counts.

    Raw payloads of contiguous arrays are views of the array, not copies. Raises
    ValueError for another dtype, an empty array or an unknown encoding.
    """
    if counts.dtype.str not in DTYPES or not counts.size:
        raise ValueError(f"{counts.dtype} {counts.shape}: expected {list(DTYPES)}")
    flat = np.ascontiguousarray(counts).reshape(-1)
    if encoding == "raw":
        return flat.data.cast("B")
    if encoding == "lz4":
        return cast(bytes, lz4.block.compress(flat, store_size=False))
    if encoding == "bslz4":
        block = _BLOCK_BYTES // flat.itemsize
        with _one_thread():
            body = bitshuffle.compress_lz4(flat, block)
        return _BSLZ4_HEADER.pack(flat.nbytes, _BLOCK_BYTES) + body.tobytes()
    raise ValueError(f"encoding {encoding!r}, expected one of {ENCODINGS}")


def decode_into(payload: Buffer, encoding: str, out: np.ndarray) -> None:
    """Fill ``out`` from the payload; raise DecodeError and nothing else.

    ``out`` is contiguous, of a whitelisted dtype and not empty. Its size is what the
    payload must have: nothing is allocated on the payload's word.
    """
    view = memoryview(payload).cast("B")
    if encoding == "raw":
        _fill(out, view)
    elif encoding == "lz4":
        _fill(out, _decompress_block(view, out.nbytes))
    elif encoding == "bslz4":
        decode_bslz4_blocks(view[12:], _block_bytes(view, out.nbytes), out)
    else:
        raise DecodeError(f"encoding {encoding[:20]!r}, expected one of {ENCODINGS}")


def decode_bslz4_blocks(blocks: Buffer, block_bytes: int, out: np.ndarray) -> None:
    """Fill ``out`` from bitshuffle blocks without the 12-byte header.

    Some detectors' simulators leave the header out. Raises DecodeError only.
    """
    block, rest = divmod(block_bytes, out.itemsize)
    if rest or block % _SHUFFLED or not 0 < block_bytes <= _MAX_BLOCK_BYTES:
        raise DecodeError(f"bslz4 blocks of {block_bytes} bytes, itemsize {rest}")
    # bitshuffle trusts the block lengths and would read past a truncated payload.
    _walk_blocks(memoryview(blocks), out, block)
    source = np.frombuffer(blocks, np.uint8)
    with _one_thread():
        read = _decompress(
            source.ctypes.data, out.ctypes.data, out.size, out.itemsize, block
        )
    if read != len(source):
        raise DecodeError(f"corrupt bslz4 block: bitshuffle returned {read}")


def _decompressor() -> Any:
    """Return bitshuffle's own C function, which fills memory that is there already.

    Its Python wrapper makes a new array, to be copied: 97 µs instead of 66 for a frame
    of 256 x 256.
    """
    function = ctypes.CDLL(bitshuffle.ext.__file__).bshuf_decompress_lz4
    function.argtypes = [ctypes.c_void_p] * 2 + [ctypes.c_size_t] * 3
    function.restype = ctypes.c_int64
    return function


_decompress = _decompressor()


def _openmp() -> Any:
    """Return the OpenMP that bitshuffle was built with, None if it has none."""
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(bitshuffle.ext.__file__)
        if library.omp_get_max_threads and library.omp_set_num_threads:
            return library
    return None


_OPENMP = _openmp()


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Keep bitshuffle from sharing a frame among threads that wait by spinning.

    On two busy cores a frame of 64 x 64 took 3.8 ms so, instead of 0.1 ms.
    """
    if _OPENMP is None:
        yield
        return
    before = _OPENMP.omp_get_max_threads()
    _OPENMP.omp_set_num_threads(1)
    try:
        yield
    finally:
        _OPENMP.omp_set_num_threads(before)


def _fill(out: np.ndarray, view: Buffer) -> None:
    if len(view) != out.nbytes:
        raise DecodeError(f"{len(view)} bytes of pixels, expected {out.nbytes}")
    out.reshape(-1).view(np.uint8)[:] = np.frombuffer(view, np.uint8)


def _decompress_block(view: memoryview, size: int) -> bytes:
    try:
        return cast(bytes, lz4.block.decompress(view, uncompressed_size=size))
    except (lz4.block.LZ4BlockError, ValueError, OverflowError) as e:
        raise DecodeError(f"corrupt LZ4 block of {len(view)} bytes: {e}") from e


def _block_bytes(view: memoryview, expected: int) -> int:
    if len(view) < _BSLZ4_HEADER.size:
        raise DecodeError(f"bslz4 payload of {len(view)} bytes has no header")
    total, block_bytes = _BSLZ4_HEADER.unpack_from(view)
    if total != expected:
        raise DecodeError(f"bslz4 header says {total} bytes, expected {expected}")
    return block_bytes


def _walk_blocks(view: memoryview, out: np.ndarray, block: int) -> None:
    """Check that the blocks and the unshuffled tail fill the payload exactly."""
    tail = out.size % _SHUFFLED
    end = len(view) - tail * out.itemsize
    at = 0
    for _ in range(-(-(out.size - tail) // block)):
        if at + 4 > end:
            break
        at += 4 + _BLOCK_LENGTH.unpack_from(view, at)[0]
    else:
        if at == end:
            return
    raise DecodeError(f"bslz4 blocks don't fit their payload of {len(view)} bytes")
