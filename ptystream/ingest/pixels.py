"""What is done to the pixels of each frame, from the detector's to the engine's.

In this order: orientation, dark, flat, mask, threshold, crop, binning. All but the
first and the last treat each pixel alone, so the crop is cut first, and only what it
keeps is worked on.
"""

from dataclasses import dataclass
from typing import TypeGuard

import numpy as np

from ptystream.errors import DecodeError
from ptystream.ingest.preprocess_options import Crop, PreprocessOptions

FLAGS = 2
"""The largest values of a type that are no counts: 2ⁿ−1 and 2ⁿ−2."""


@dataclass(frozen=True, slots=True)
class Corrections:
    """A detector's arrays ``[h, w]`` as its frames are sent; None: there is none.

    ``dead`` is true where a pixel is; ``saturation`` is in raw counts.
    """

    dark: np.ndarray | None = None
    flat: np.ndarray | None = None
    dead: np.ndarray | None = None
    saturation: int | None = None


def sentinel(dtype: np.dtype) -> int:
    """Return the value of a pixel that can't be believed."""
    return int(np.iinfo(dtype).max)


def is_count(said: object) -> TypeGuard[int]:
    """Tell a number of counts from whatever else a stream may say."""
    return isinstance(said, int) and not isinstance(said, bool) and said > 0


def limit(dtype: np.dtype, saturation: int | None) -> int:
    """Return the raw counts from which a pixel can't be believed."""
    flagged = sentinel(dtype) - FLAGS + 1
    return min(flagged, saturation or flagged)


def turned(array: np.ndarray, options: PreprocessOptions) -> np.ndarray:
    """Return a view of ``[h, w]`` in the engine's orientation."""
    array = array.T if options.transpose else array
    array = array[:: -1 if options.flip_y else 1, :: -1 if options.flip_x else 1]
    return np.rot90(array, -options.quarter_turns) if options.quarter_turns else array


def binned_dtype(dtype: np.dtype, binning: int) -> np.dtype:
    """Return the smallest type that holds the sum of so many squared pixels."""
    most = (sentinel(dtype) - FLAGS) * binning**2
    for wider in (dtype, np.dtype("<u2"), np.dtype("<u4")):
        if most <= sentinel(wider) - FLAGS:
            return wider
    return np.dtype("<u4")


class Pixels:
    """The work on frames of one shape and type; arrays are cut to it once."""

    def __init__(
        self,
        shape: tuple[int, int],
        dtype: np.dtype,
        options: PreprocessOptions,
        corrections: Corrections,
        window: Crop | None,
    ) -> None:
        """Prepare for frames of ``shape``; ``window`` is in turned pixels.

        Raises DecodeError for an array of another shape than the frames.
        """
        self._options, self._binning = options, options.binning
        high, wide = shape[::-1] if options.transposed else shape
        self._window = window or (0, 0, high, wide)
        height, width = self._window[2:]
        self.shape = height // self._binning, width // self._binning
        self.dtype = binned_dtype(dtype, self._binning)
        self._from, self._to = _overlap((high, wide), self._window)
        inside = (height, width) == self._cut(np.empty(shape, "?")).shape
        self._outside = None if inside else self._beyond()
        self._dead = self._own(corrections.dead, "mask", shape)
        self._dark = self._own(corrections.dark, "dark", shape)
        self._flat = self._own(corrections.flat, "flat", shape)
        largest = sentinel(dtype)
        if self._dark is not None and self._flat is None:
            self._dark = np.rint(self._dark).clip(0, largest).astype(dtype)
        self._limit = limit(dtype, corrections.saturation)
        self._flag, self._most = largest, largest - FLAGS
        # Sums of 64 x 64 pixels of 2 bytes stay below 2³².
        self._wide = np.dtype(np.uint64 if dtype.itemsize > 2 else np.uint32)
        self._work = np.empty(self._window[2:], dtype) if self._binning > 1 else None
        self._bad = np.empty(self._window[2:], bool)

    def apply(self, raw: np.ndarray, out: np.ndarray) -> None:
        """Fill ``out`` of ``self.shape`` and ``self.dtype`` from a frame as sent."""
        work, bad = out if self._work is None else self._work, self._bad
        work[self._to] = self._cut(raw)
        np.greater_equal(work, self._limit, out=bad)
        for more in (self._dead, self._outside):
            if more is not None:
                np.logical_or(bad, more, out=bad)
        self._correct(work)
        if self._options.threshold:
            work[work < self._options.threshold] = 0
        if self._binning == 1:
            np.copyto(out, self._flag, where=bad)
        else:
            self._bin(work, bad, out)

    def _correct(self, work: np.ndarray) -> None:
        """Subtract the dark, multiply by the flat, in place."""
        if self._flat is None:
            if self._dark is not None:
                work -= np.minimum(work, self._dark)
            return
        exact = work.astype(np.float64)
        if self._dark is not None:
            exact -= self._dark
        exact *= self._flat
        np.rint(exact, out=exact)
        np.clip(exact, 0, self._most, out=exact)
        work[:] = exact

    def _bin(self, work: np.ndarray, bad: np.ndarray, out: np.ndarray) -> None:
        """Sum squares; one bad pixel spoils its square."""
        total = _squares(work, self._binning, np.add, self._wide)
        largest = sentinel(self.dtype)
        np.minimum(total, largest - FLAGS, out=total)
        out[:] = total
        if bad.any():
            spoilt = _squares(bad, self._binning, np.logical_or, np.dtype(bool))
            np.copyto(out, largest, where=spoilt)

    def _cut(self, array: np.ndarray) -> np.ndarray:
        return turned(array, self._options)[self._from]

    def _beyond(self) -> np.ndarray:
        """Return where the window lies outside the detector."""
        beyond = np.ones(self._window[2:], bool)
        beyond[self._to] = False
        return beyond

    def _own(
        self, array: np.ndarray | None, name: str, shape: tuple[int, int]
    ) -> np.ndarray | None:
        """Return the part of a correction that the window needs; 0 outside."""
        if array is None:
            return None
        if array.shape != shape:
            raise DecodeError(f"{name} of shape {array.shape}, frames of {shape}")
        part = np.zeros(self._window[2:], array.dtype)
        part[self._to] = self._cut(array)
        return part


def _squares(array: np.ndarray, n: int, join: np.ufunc, dtype: np.dtype) -> np.ndarray:
    """Join each square of n x n pixels; rows first, as they lie in memory."""
    high, wide = (side // n * n for side in array.shape)
    rows = array[0:high:n].astype(dtype)
    for row in range(1, n):
        join(rows, array[row:high:n], out=rows)
    squares = rows[:, 0:wide:n].copy()
    for col in range(1, n):
        join(squares, rows[:, col:wide:n], out=squares)
    return squares


def _overlap(
    shape: tuple[int, int], window: Crop
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Return where a window lies in a frame, and that part's place in the window."""
    top, left, height, width = window
    pairs = [_along(shape[0], top, height), _along(shape[1], left, width)]
    return (pairs[0][0], pairs[1][0]), (pairs[0][1], pairs[1][1])


def _along(length: int, start: int, size: int) -> tuple[slice, slice]:
    first, last = max(start, 0), min(start + size, length)
    if last <= first:
        raise DecodeError(f"window {start}+{size} lies outside {length} pixels")
    return slice(first, last), slice(first - start, last - start)
