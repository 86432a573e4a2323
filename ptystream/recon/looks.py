"""Looks at how well exposures are fitted, read without waiting for the device."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ptystream.models.field import Field
from ptystream.recon.exposures import Exposures
from ptystream.recon.predictor import Predictor


class Later:
    """Tensors on their way to the host, as they were when it was made."""

    def __init__(self, *tensors: Tensor) -> None:
        self._sent = [_sent(tensor) for tensor in tensors]
        self._there: torch.cuda.Event | None = None
        if any(tensor.is_cuda for tensor in tensors):
            self._there = torch.cuda.Event()
            self._there.record()

    def read(self) -> list[np.ndarray]:
        """Return them; waits only while they are still under way."""
        if self._there is not None:
            self._there.synchronize()
        return [tensor.numpy() for tensor in self._sent]


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen: each slot's last ``loss``, infinite where it had none yet.

    ``arrivals`` is how many exposures had come by then: slots may have others since.
    ``noise`` is the share of the held-out error that is photon noise, in 0..1; 1 where
    that is not known. ``error`` is the relative held-out error, NaN where that is not
    known or what was looked at stood still; ``area_px`` how much had been lit.
    ``explained`` is how far it is from an empty object's to noise's, in 0..1.
    """

    loss: Float[np.ndarray, " n"]
    arrivals: int
    noise: float
    error: float
    area_px: float
    explained: float


class Looks:
    """Each look is handed out at the next: by steps, never by when it is ready.

    So the same steps give the same object on any device, and no step waits.
    """

    def __init__(self, exposures: Exposures, predictor: Predictor) -> None:
        self._exposures, self._predictor = exposures, predictor
        self._before: tuple[Later, int] | None = None

    def look(
        self,
        objects: Field,
        probe: Field,
        area_px: Float[Tensor, ""],
        *,
        still: bool,
    ) -> Look | None:
        """Begin a look; return what the one before saw, None the first time."""
        figures = self._begin(objects, probe, area_px, still)
        begun = figures, self._exposures.store.arrivals
        before, self._before = self._before, begun
        if before is None:
            return None
        figures, arrivals = before
        loss, noise, error, lit_px, explained = figures.read()
        share = float(noise)
        share = share if 0 <= share < 1 else 1.0
        told = float(error), float(lit_px), float(explained)
        return Look(loss, arrivals, share, *told)

    def _begin(
        self, objects: Field, probe: Field, area_px: Float[Tensor, ""], still: bool
    ) -> Later:
        """Measure, and start the figures on their way."""
        loss = self._exposures.store.loss
        total = self._predictor.misfit(self._exposures.held_out(), objects, probe)
        unknown = loss.new_full((), torch.nan)
        if total is None:
            return Later(loss, loss.new_ones(()), unknown, area_px, unknown)
        error = unknown if still else total.error / total.power
        explained = (total.flat - total.error) / (total.flat - total.noise)
        return Later(loss, total.noise / total.error, error, area_px, explained)


def _sent(tensor: Tensor) -> Tensor:
    """Return a copy that is on the host, or will be once the device gets to it."""
    if not tensor.is_cuda:
        return tensor.clone()
    pinned = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return pinned.copy_(tensor, non_blocking=True)
