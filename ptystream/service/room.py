"""A reconstruction in the memory that there is: the frame store gives way."""

import logging
from collections.abc import Callable
from dataclasses import replace

import torch

from ptystream.errors import ConfigError
from ptystream.recon.options import ReconOptions
from ptystream.recon.reconstruction import Reconstruction

log = logging.getLogger(__name__)

LEAST = 64
"""Frames that a store must hold: with fewer there is nothing to choose from."""
_REFUSED = ("can't allocate memory", "not enough memory")
"""How torch names the same on a CPU, where it raises a plain RuntimeError."""


def made_to_fit(
    make: Callable[[ReconOptions], Reconstruction], options: ReconOptions
) -> Reconstruction:
    """Return what ``make`` does, with half the frame store as often as it must be.

    Raises:
        ConfigError: there is no room for 64 frames.
    """
    while True:
        try:
            return make(options)
        except (RuntimeError, MemoryError) as error:
            if not _no_memory(error):
                raise
        asked = options.engine.store
        if asked // 2 < LEAST:
            raise ConfigError(f"engine.store = {asked}: no memory even for that")
        log.error("engine.store = %d: no memory, so %d", asked, asked // 2)
        # What the attempt took is given back before the next one asks.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        options = replace(options, engine=replace(options.engine, store=asked // 2))


def _no_memory(error: RuntimeError | MemoryError) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return any(text in str(error) for text in _REFUSED)
