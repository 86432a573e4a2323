"""What every field keeps: object or probe on a window of an unbounded canvas."""

from collections.abc import Iterator
from typing import NamedTuple, Protocol, runtime_checkable

from jaxtyping import Complex
from torch import Tensor
from torch.nn import Parameter


class Box(NamedTuple):
    """A window in object pixels; the canvas has no edge, so y and x may be negative."""

    y: int
    x: int
    h: int
    w: int

    def holds(self, other: "Box") -> bool:
        """Tell whether the other box lies inside this one."""
        return (
            self.y <= other.y
            and self.x <= other.x
            and other.y + other.h <= self.y + self.h
            and other.x + other.w <= self.x + self.w
        )

    def union(self, other: "Box") -> "Box":
        """Return the smallest box that holds both."""
        y, x = min(self.y, other.y), min(self.x, other.x)
        bottom = max(self.y + self.h, other.y + other.h)
        right = max(self.x + self.w, other.x + other.w)
        return Box(y, x, bottom - y, right - x)

    def grown(self, margin: int) -> "Box":
        """Return the box with a margin on every side."""
        return Box(
            self.y - margin, self.x - margin, self.h + 2 * margin, self.w + 2 * margin
        )


@runtime_checkable
class Field(Protocol):
    """An object in slices, or a probe in modes: the engine can't tell which kind.

    A field is an ``nn.Module``. Its cost follows the window, never the canvas.
    """

    def window(self, box: Box) -> Complex[Tensor, "s h w"]:
        """Return the field on the box, differentiable in the parameters."""
        ...

    def cover(self, box: Box) -> bool:
        """Make room for the box without disturbing what is learned; True if it grew."""
        ...

    def parameters(self) -> Iterator[Parameter]:
        """Yield what is learned."""
        ...
