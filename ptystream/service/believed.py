"""Which counts can be believed: pre-processing and detectors flag those that can't.

A flag is the largest value of a frame's type, or the one below it (2ⁿ−1 and 2ⁿ−2).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ptystream.ingest.pixels import is_count

_MOST = 2_000_000_000  # the store keeps up to 2³¹−1, in 24 bits of precision


def doubtful_from(
    dtype: np.dtype, meta: Mapping[str, Any], told: int | None = None
) -> int:
    """Return the counts from which a pixel isn't believed.

    That is ``told``, what the scan's metadata say, or the flags: the least of them.
    """
    said, done = meta.get("saturation"), meta.get("preprocess")
    limits = [int(np.iinfo(dtype).max) - 1, _MOST, told]
    # Squares of binned pixels hold more; the receiver has flagged the spoilt ones.
    binned = isinstance(done, Mapping) and done.get("binning", 1) != 1
    if is_count(said) and not binned:
        limits.append(said)
    return min(limit for limit in limits if limit is not None)


def has_light(counts: np.ndarray, doubtful: int) -> bool:
    """Tell whether a pattern has a photon that can be believed."""
    if counts.max() < doubtful:
        return bool(counts.any())
    return bool(((counts > 0) & (counts < doubtful)).any())


def usable(
    patterns: np.ndarray, doubtful: int, mask: np.ndarray | None
) -> np.ndarray | None:
    """Return the mask without pixels that no pattern ``[n, h, w]`` has; None: all.

    They are the dead ones, and what lies beside the detector.
    """
    dead = np.asarray((patterns >= doubtful).all(axis=0))
    if not dead.any():
        return mask
    return ~dead if mask is None else mask & ~dead


def any_doubtful(patterns: np.ndarray, doubtful: int, mask: np.ndarray | None) -> bool:
    """Tell whether a pixel of the mask isn't believed in ``[..., h, w]``."""
    if patterns.max() < doubtful:
        return False
    flagged = patterns >= doubtful
    return bool((flagged if mask is None else flagged & mask).any())


def filled(patterns: np.ndarray, doubtful: int) -> np.ndarray:
    """Return counts ``[n, h, w]``; what isn't believed is the others' mean, or 0."""
    if patterns.max() < doubtful:
        return patterns
    good = patterns < doubtful
    total = np.where(good, patterns, 0).sum(0, dtype=np.float64)
    return np.where(good, patterns, total / np.maximum(good.sum(0), 1))
