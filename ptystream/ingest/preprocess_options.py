"""What can be done to patterns on their way in: frozen values; config checks them."""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Gt, Le

Count = Annotated[int, Gt(0)]
Counts = Annotated[int, Ge(0)]

CLOSED = {"extra": "forbid", "use_attribute_docstrings": True}
"""An unknown key is an error, and each key's docstring is its help."""

STREAM = "stream"
"""Instead of a file: the detector's own array, from its stream."""

Crop = tuple[int, int, int, int]
"""First row, first column, height and width, in detector pixels."""


@dataclass(frozen=True, slots=True)
class PreprocessOptions:
    """Done in the receiver, in this order.

    Orientation, dark, flat, mask, threshold, crop, binning. Files are ``.npy``, or
    ``FILE.h5:/DATASET``, ``[rows, columns]`` as the detector sends its frames. A pixel
    that can't be believed gets the largest value of the frame's type; the engine
    leaves it out.
    """

    __pydantic_config__ = CLOSED

    transpose: bool = False
    """Swap rows and columns, before all else."""
    flip_y: bool = False
    """Reverse the rows."""
    flip_x: bool = False
    """Reverse the columns."""
    quarter_turns: Annotated[int, Ge(0), Le(3)] = 0
    """Turn by 90° so often, from the rows' axis to the columns', after the flips."""
    dark: str | None = None
    """File of counts without beam, subtracted; below 0 is 0."""
    flat: str | None = None
    """File of factors by which counts are multiplied, then rounded; ``stream``: the
    detector's own, where it doesn't apply it itself."""
    mask: str | None = STREAM
    """File that is not 0 where a pixel is dead; ``stream``: the detector's own, if it
    sends one."""
    saturation: Count | None = None
    """Raw counts from which a pixel isn't believed; none: what the stream says. The
    two largest values of the raw type are never believed: detectors flag with them."""
    threshold: Counts = 0
    """Fewer counts than this are none."""
    size: tuple[Count, Count] | None = None
    """Rows and columns to keep around the beam, in detector pixels; none: all, or
    ``detector.crop``. What lies outside the detector is masked."""
    centre: tuple[float, float] | None = None
    """Row and column of the beam, once turned; none: found from the first frames."""
    binning: Annotated[int, Gt(0), Le(64)] = 1
    """Sum squares of so many pixels; one that isn't believed spoils its square."""

    @property
    def finds_centre(self) -> bool:
        """Return whether the first frames must tell where the beam is."""
        return self.size is not None and self.centre is None

    @property
    def transposed(self) -> bool:
        """Return whether rows become columns in all."""
        return self.transpose != bool(self.quarter_turns % 2)
