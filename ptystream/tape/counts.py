"""From whatever numbers a file holds to counts: uint8, uint16 or uint32."""

import numpy as np

from ptystream.errors import FileFormatError

_SMALLEST = {1: np.uint8, 2: np.uint16}


def count_dtype(dtype: np.dtype) -> np.dtype | None:
    """Return the dtype that counts of this dtype become; None if it holds no counts.

    Integers keep their size up to 32 bits; wider ones and floats become uint32.
    """
    if dtype.kind in "iu":
        return np.dtype(_SMALLEST.get(dtype.itemsize, np.uint32)).newbyteorder("<")
    return np.dtype("<u4") if dtype.kind == "f" else None


def to_counts(
    raw: np.ndarray, dtype: np.dtype, usable: np.ndarray | None, where: str
) -> np.ndarray:
    """Return one pattern as counts, an array of its own.

    Unusable pixels that hold no count (gaps are often -1 or NaN) become 0.

    Raises:
        FileFormatError: a usable pixel is negative, not whole, or too large.
    """
    if raw.dtype.kind == "u" and raw.dtype.itemsize <= dtype.itemsize:
        return raw.astype(dtype)
    fits = (raw >= 0) & (raw <= np.iinfo(dtype).max)
    if raw.dtype.kind == "f":
        fits &= np.floor(raw) == raw
    bad = ~fits if usable is None else ~fits & usable
    if bad.any():
        y, x = (int(v) for v in np.argwhere(bad)[0])
        raise FileFormatError(
            f"{where}: pixel ({y}, {x}) is {raw[y, x]}; "
            f"expected a whole count of 0 to {np.iinfo(dtype).max}"
        )
    return np.where(fits, raw, 0).astype(dtype)
