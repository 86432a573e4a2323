"""Bitshuffle with LZ4, as detectors and HDF5 filter 32008 have it.

u64 big-endian byte count, u32 big-endian block bytes, then for each block a u32
big-endian length and an LZ4 block; up to seven last elements follow unshuffled and
uncompressed. Blocks don't depend on each other.

``dectris.compression`` decodes where it is installed, else bitshuffle: 31 and 66 µs for
a frame of 256 x 256, 0.5 and 0.9 ms for 1030 x 1065, uint16.
"""

import contextlib
import ctypes
import struct
from collections.abc import Callable, Iterator
from typing import Any

import bitshuffle
import bitshuffle.ext
import numpy as np

from ptystream.errors import DecodeError

Buffer = bytes | memoryview
Unpack = Callable[[memoryview, int, np.ndarray], None]
"""Fills an array from a payload that was walked, with blocks of so many elements."""

HEADER = struct.Struct(">QI")
BLOCK_BYTES = 8192
_LENGTH = struct.Struct(">I")
_MAX_BLOCK_BYTES = 1 << 24
_SHUFFLED = 8  # bitshuffle works on groups of eight elements


def compress(flat: np.ndarray) -> bytes:
    """Return the payload of a contiguous one-dimensional array."""
    with _one_thread():
        blocks = bitshuffle.compress_lz4(flat, BLOCK_BYTES // flat.itemsize)
    return HEADER.pack(flat.nbytes, BLOCK_BYTES) + blocks.tobytes()


def decompress_into(view: memoryview, out: np.ndarray) -> None:
    """Fill ``out``, whose size the payload must have; raise DecodeError only."""
    block = _block(view, out.nbytes, out.itemsize)
    # Neither library can be told how long the payload is: they trust its lengths.
    _walk(view, out.size, out.itemsize, block)
    _unpack(view, block, out)


def decompress_rows(
    view: memoryview, shape: tuple[int, int], dtype: np.dtype, first: int, stop: int
) -> np.ndarray:
    """Return rows of an image, decoding only the blocks that hold them.

    A quarter of the rows of 1030 x 1065 takes a third of the time of all.
    Raises DecodeError and nothing else; the rows must be within the shape.
    """
    size, width = shape[0] * shape[1], shape[1]
    block = _block(view, size * dtype.itemsize, dtype.itemsize)
    ends = _walk(view, size, dtype.itemsize, block)
    begin, end = first * width // block, -(-stop * width // block)
    start, most = begin * block, size
    if end < len(ends) - 1:  # else to the end, with what follows the last whole block
        most = end * block
    else:
        end = len(ends) - 1
    out = np.empty(most - start, dtype)
    head = HEADER.pack(out.nbytes, block * dtype.itemsize)
    _unpack(memoryview(head + bytes(view[ends[begin] : ends[end]])), block, out)
    return out[first * width - start : stop * width - start].reshape(-1, width)


def with_header(payload: Buffer, nbytes: int) -> Buffer:
    """Return a payload with its 12 bytes, whatever its sender put there.

    Simulators send them as zeros or leave them out; the blocks are then of 8 KiB.
    """
    given = bytes(payload[: HEADER.size])
    if len(given) == HEADER.size and HEADER.unpack(given)[0] == nbytes:
        return payload
    blocks = payload[HEADER.size :] if given == bytes(HEADER.size) else payload
    return HEADER.pack(nbytes, BLOCK_BYTES) + bytes(blocks)


def _block(view: memoryview, nbytes: int, itemsize: int) -> int:
    """Return the elements of a block, from a header that must say ``nbytes``."""
    if len(view) < HEADER.size:
        raise DecodeError(f"bslz4 payload of {len(view)} bytes has no header")
    total, block_bytes = HEADER.unpack_from(view)
    if total != nbytes:
        raise DecodeError(f"bslz4 header says {total} bytes, expected {nbytes}")
    block, rest = divmod(block_bytes, itemsize)
    if rest or block % _SHUFFLED or not 0 < block_bytes <= _MAX_BLOCK_BYTES:
        raise DecodeError(f"bslz4 blocks of {block_bytes} bytes, itemsize {itemsize}")
    return block


def _walk(view: memoryview, size: int, itemsize: int, block: int) -> list[int]:
    """Return where each block begins, and the end; all must fit exactly."""
    tail = size % _SHUFFLED
    end = len(view) - tail * itemsize
    at, length = HEADER.size, _LENGTH.unpack_from
    starts = [at]
    for _ in range(-(-(size - tail) // block)):
        if at + 4 > end:
            break
        at += 4 + length(view, at)[0]
        starts.append(at)
    else:
        if at == end:
            return [*(starts[:-1] or starts), len(view)]
    raise DecodeError(f"bslz4 blocks don't fit their payload of {len(view)} bytes")


def _with_bitshuffle() -> Unpack:
    """Return what calls bitshuffle's own C function.

    Its Python wrapper makes a new array, to be copied: 97 µs instead of 66 for a frame
    of 256 x 256.
    """
    function = ctypes.CDLL(bitshuffle.ext.__file__).bshuf_decompress_lz4
    function.argtypes = [ctypes.c_void_p] * 2 + [ctypes.c_size_t] * 3
    function.restype = ctypes.c_int64

    def unpack(view: memoryview, block: int, out: np.ndarray) -> None:
        source = np.frombuffer(view, np.uint8)[HEADER.size :]
        with _one_thread():
            read = function(
                source.ctypes.data, out.ctypes.data, out.size, out.itemsize, block
            )
        if read != len(source):
            raise DecodeError(f"corrupt bslz4 block: bitshuffle returned {read}")

    return unpack


def _with_dectris(decompress: Callable[..., bytes]) -> Unpack:
    """Return what calls DECTRIS' library, and copies what it made."""

    def unpack(view: memoryview, _block: int, out: np.ndarray) -> None:
        try:
            made = decompress(view, "bslz4", elem_size=out.itemsize)
        except RuntimeError as e:
            raise DecodeError(f"corrupt bslz4 block: {e}") from e
        out.reshape(-1)[:] = np.frombuffer(made, out.dtype)

    return unpack


def _unpacker() -> Unpack:
    try:
        from dectris.compression import decompress  # pyright: ignore
    except ImportError:
        return _with_bitshuffle()
    return _with_dectris(decompress)


_unpack = _unpacker()


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
