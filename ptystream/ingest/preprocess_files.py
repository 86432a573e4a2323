"""Dark, flat and mask from files: read once, checked before memory is taken."""

import math
from pathlib import Path

import h5py
import numpy as np

from ptystream.errors import ConfigError

_MOST_PIXELS = 1 << 26


def read_array(place: str, setting: str) -> np.ndarray:
    """Return the ``[h, w]`` array of ``FILE.npy`` or ``FILE.h5:/DATASET``.

    Raises:
        ConfigError: it can't be read, is no finite picture, or is beyond 64 Mpx.
    """
    path, colon, dataset = place.rpartition(":")
    try:
        if colon and dataset.startswith("/"):
            with h5py.File(path) as file:
                array = _loaded(file[dataset])
        else:
            array = _loaded(np.load(Path(place), mmap_mode="r", allow_pickle=False))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError) as e:
        raise ConfigError(
            f"detector.preprocess.{setting} {place!r}: {e}; expected FILE.npy or "
            f"FILE.h5:/DATASET with an array [rows, columns]"
        ) from e
    if not np.isfinite(array).all():
        raise ConfigError(f"detector.preprocess.{setting} {place!r}: not finite")
    return array


def _loaded(array: object) -> np.ndarray:
    """Read what is a picture of numbers."""
    if not isinstance(array, np.ndarray | h5py.Dataset):
        raise TypeError(f"{type(array).__name__}, not an array")
    pixels = math.prod(array.shape)
    if array.ndim != 2 or array.dtype.kind not in "buif" or pixels > _MOST_PIXELS:
        raise ValueError(f"{array.dtype} of shape {array.shape}")
    return np.array(array)
