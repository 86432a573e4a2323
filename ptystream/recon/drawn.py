"""An object as it was once drawn, so that one drawing serves picture and judgement."""

from collections.abc import Iterator

import torch
from jaxtyping import Complex
from torch import Tensor
from torch.nn import Parameter

from ptystream.models.field import Box, Field
from ptystream.recon.hold import still


class Drawn:
    """A field's values on a box; it learns nothing and grows nowhere.

    Held-out exposures lie all over the scan: with windows of their own, a network's
    whole canvas would be evaluated twice a snapshot.
    """

    def __init__(self, field: Field, box: Box) -> None:
        with torch.no_grad(), still(field):
            self._values = field.window(box)
        self._box = box

    def window(self, box: Box) -> Complex[Tensor, "s h w"]:
        """Return the values on a part of the box; ValueError beyond it."""
        if not self._box.holds(box):
            raise ValueError(f"{box}: only {self._box} was drawn")
        y, x = box.y - self._box.y, box.x - self._box.x
        return self._values[:, y : y + box.h, x : x + box.w]

    def cover(self, box: Box) -> bool:
        """Do nothing: what was drawn stays as it is."""
        return False

    def parameters(self) -> Iterator[Parameter]:
        """Yield nothing."""
        yield from ()
