"""Pixels to payload bytes and back: raw, one LZ4 block, bitshuffle with LZ4.

``lz4-framed``, HDF5's LZ4 in many blocks, is only decoded: a detector may send it.
"""

import math
from typing import Literal, cast, get_args

import lz4.block
import numpy as np

from ptystream.errors import DecodeError
from ptystream.wire import bslz4
from ptystream.wire.bslz4 import Buffer

Encoding = Literal["raw", "lz4", "bslz4"]
ENCODINGS: tuple[Encoding, ...] = get_args(Encoding)

DTYPES = {name: np.dtype(name) for name in ("|u1", "<u2", "<u4")}
"""The only pixel types on the wire."""


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
        return bslz4.compress(flat)
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
        bslz4.decompress_into(view, out)
    elif encoding == "lz4-framed":
        _fill(out, _decompress_framed(view, out.nbytes))
    else:
        raise DecodeError(f"encoding {encoding[:20]!r}, expected one of {ENCODINGS}")


def decode_rows(
    payload: Buffer,
    encoding: str,
    shape: tuple[int, int],
    dtype: np.dtype,
    first: int,
    stop: int,
) -> np.ndarray:
    """Return some rows of an image, decoding no more than it takes.

    They may be a view of a raw payload. Raises DecodeError and nothing else.
    """
    if not 0 <= first <= stop <= shape[0]:
        raise DecodeError(f"rows {first} to {stop} of an image of {shape}")
    view = memoryview(payload).cast("B")
    if encoding == "bslz4":
        return bslz4.decompress_rows(view, shape, dtype, first, stop)
    if encoding == "raw":
        _check_size(view, math.prod(shape) * dtype.itemsize)
        return np.frombuffer(view, dtype).reshape(shape)[first:stop]
    counts = np.empty(shape, dtype)
    decode_into(payload, encoding, counts)
    return counts[first:stop]


def _check_size(view: Buffer, nbytes: int) -> None:
    if len(view) != nbytes:
        raise DecodeError(f"{len(view)} bytes of pixels, expected {nbytes}")


def _fill(out: np.ndarray, view: Buffer) -> None:
    _check_size(view, out.nbytes)
    out.reshape(-1).view(np.uint8)[:] = np.frombuffer(view, np.uint8)


def _decompress_block(view: memoryview, size: int) -> bytes:
    try:
        return cast(bytes, lz4.block.decompress(view, uncompressed_size=size))
    except (lz4.block.LZ4BlockError, ValueError, OverflowError) as e:
        raise DecodeError(f"corrupt LZ4 block of {len(view)} bytes: {e}") from e


def _decompress_framed(view: memoryview, size: int) -> bytes:
    """Return what HDF5's framing of LZ4 holds: the same header, then plain blocks."""
    if len(view) < bslz4.HEADER.size:
        raise DecodeError(f"LZ4 payload of {len(view)} bytes has no header")
    total, block_bytes = bslz4.HEADER.unpack_from(view)
    if total != size or not block_bytes:
        raise DecodeError(f"LZ4 header says {total} bytes, expected {size}")
    at, parts = bslz4.HEADER.size, []
    for start in range(0, size, block_bytes):
        length = int.from_bytes(view[at : at + 4], "big")
        block, at = view[at + 4 : at + 4 + length], at + 4 + length
        expected = min(block_bytes, size - start)
        # A block that LZ4 would have made larger is stored as it is.
        whole = length == expected == len(block)
        parts.append(bytes(block) if whole else _decompress_block(block, expected))
    if at != len(view):
        raise DecodeError(f"LZ4 blocks end at byte {at} of {len(view)}")
    return b"".join(parts)
